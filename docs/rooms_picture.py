"""The picture of the rooms: `python docs/rooms_picture.py > docs/images/rooms.svg`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

Box = tuple[str, tuple[str, ...]]  # title, lines below it
LAYERS: tuple[tuple[Box, ...], ...] = (
    (("cli", ("one file for each command; heavy imports happen inside the commands",)),),
    (
        ("experiment", ("config, graph, one file for each kind of", "artifact (nodes/), executor, store, status")),
        ("report", ("tables, comparisons,", "figures, page")),
        ("eval/sgtr_eval", ("tasks, judging, model provider;", "sees text, never parameters")),
    ),
    (
        ("finetune", ("jobs, many runs over one base,", "provider's API")),
        ("estimate", ("programs compiled for TPU slices", "that are not here: memory, time")),
    ),
    (
        ("train", ("loss, optimizer, step,", "loop, checkpoints")),
        ("sample", ("model, engine, slots,", "prefill, decode, export")),
        ("weights", ("Hugging Face and PEFT", "files in and out")),
    ),
    (
        ("models", ("spec, decoder, layers,", "attention, cache")),
        ("lora", ("adapter, product,", "chains, merging")),
        ("data", ("records, chat text, packing,", "batches, sets; no models")),
    ),
    (("distributed", ("mesh, launch, collectives, supervision, device memory",)),),
    (
        (
            "the ground",
            (
                "arrays, buckets, config, errors, files, fingerprint",
                "json_types, keys, near, packed, progress, sealed, yaml_text",
            ),
        ),
    ),
)
TRIPS: tuple[tuple[str, tuple[Box, ...]], ...] = (
    (
        "Trip 1: a row to its loss",
        (
            ("data/records.py", ("reads the line,", "checks it")),
            ("data/chat.py", ("text and", "loss mask")),
            ("data/batches.py", ("tokens, order,", "steps")),
            ("data/packing.py", ("rows of a", "few shapes")),
            ("train/step.py", ("one step of", "R runs")),
            ("models/decoder.py", ("hidden", "states")),
            ("train/loss.py", ("at the loss", "positions")),
        ),
    ),
    (
        "Trip 2: a prompt to the table",
        (
            ("tasks/TASK.py", ("questions", "as samples")),
            ("sgtr_eval/provider.py", ("Inspect asks", "our engine")),
            ("sample/engine.py", ("batch slots,", "chains")),
            ("sample/decode.py", ("token by", "token")),
            ("judging/scoring.py", ("reply to", "score")),
            ("report/tables.py", ("results.csv", "")),
            ("report/page.py", ("figures,", "report.html")),
        ),
    ),
    (
        "Trip 3: an adapter to its product",
        (
            ("weights/peft.py", ("PEFT folder", "to arrays")),
            ("lora/transforms.py", ("the chain, side by", "side with its scales")),
            ("models/decoder.py", ("a layer gets its", "part of each adapter")),
            ("models/layers.py", ("frozen product", "plus the adapters'")),
            ("lora/product.py", ("x · A · B · scale,", "and its gradient")),
        ),
    ),
)
WIDTH, LEFT, GAP = 1180, 20, 15
_STYLE = (
    'text{font-family:Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif;fill:#1d2730}'
    ".h{font-size:16px;font-weight:600}.t{font-size:14px;font-weight:600;text-anchor:middle}"
    ".f{font-size:12px;font-weight:600;text-anchor:middle}"
    ".s{font-size:12.5px;text-anchor:middle;fill:#3d4a55}"
)


def picture() -> str:
    """The picture as SVG."""
    shapes: list[str] = []
    y = 46
    for layer in LAYERS:
        height = 30 + 16 * max(len(lines) for _, lines in layer)
        shapes += _row(layer, y, height, GAP, "#eef2f7")
        y += height + 10
    for title, boxes in TRIPS:
        y += 34
        shapes.append(f'<text x="{LEFT}" y="{y - 10}" class="h">{title}</text>')
        shapes += _row(boxes, y, 62, 22, "#f7f3e8")
        shapes += _arrows(len(boxes), y + 31, 22)
        y += 62
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 20}" role="img" '
        'aria-label="The rooms of the code in layers, and three trips through them">'
        f"<style>{_STYLE}</style>"
        '<defs><marker id="a" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="5" markerHeight="5" orient="auto">'
        '<path d="M0 0 6 3 0 6z" fill="#555"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{y + 20}" fill="#fff"/>'
        f'<text x="{LEFT}" y="28" class="h">The rooms. Each imports rooms below it and, where tests/test_walls.py '
        "allows it, its neighbours.</text>"
    )
    return "\n".join([head, *shapes, "</svg>"])


def _row(boxes: Sequence[Box], y: int, height: int, gap: int, fill: str) -> Iterator[str]:
    width = (WIDTH - 2 * LEFT - gap * (len(boxes) - 1)) / len(boxes)
    for i, (title, lines) in enumerate(boxes):
        x = LEFT + i * (width + gap)
        yield f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{height}" rx="6" fill="{fill}" stroke="#5b7083"/>'
        style = "f" if title.endswith(".py") else "t"
        yield f'<text x="{x + width / 2:g}" y="{y + 20}" class="{style}">{escape(title)}</text>'
        for line, text in enumerate(lines):
            yield f'<text x="{x + width / 2:g}" y="{y + 38 + 16 * line}" class="s">{escape(text)}</text>'


def _arrows(count: int, y: int, gap: int) -> Iterator[str]:
    width = (WIDTH - 2 * LEFT - gap * (count - 1)) / count
    for i in range(count - 1):
        x = LEFT + (i + 1) * width + i * gap
        yield f'<path d="M{x + 2:g} {y}H{x + gap - 3:g}" stroke="#555" stroke-width="1.5" marker-end="url(#a)"/>'


if __name__ == "__main__":
    print(picture())
