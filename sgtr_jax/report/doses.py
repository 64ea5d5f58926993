"""How much each stage was trained: steps, examples and tokens, and what other data set that was measured by."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sgtr_jax.files import read_json
from sgtr_jax.report.adapters import adapters_below, stored
from sgtr_jax.report.run_file import DoseEntry, TrainingReport
from sgtr_jax.report.tables import RunData
from sgtr_jax.sealed import damage

esc = html.escape


@dataclass(frozen=True)
class Trained:
    """A stage at a seed, and how much it was trained."""

    stages: str  # it and those before it, without the seed
    matched: str  # by what, or empty
    steps: int
    examples: int | None  # None: made by an older version
    tokens: int  # prompts included


def doses_of(run: RunData) -> list[tuple[Trained, int]]:
    """Each stage once, as its first seed was trained, and how many adapters that is true of."""
    folders = {
        path: name for cell in run.cells if cell.why_missing is None for name, path in adapters_below(cell.folder)
    }
    found: dict[tuple[str, str, int, int | None], tuple[Trained, int]] = {}
    for path, name in folders.items():
        for one in _trained(name, path):
            key = (one.stages, one.matched, one.steps, one.examples)
            first, count = found.get(key, (one, 0))
            found[key] = (first, count + 1)
    return list(found.values())


def _trained(name: str, folder: Path) -> Iterator[Trained]:
    if (record := stored(folder)) is None or damage(folder, whole=True, names=["report.json"]):
        return
    report = cast(TrainingReport, read_json(folder / "report.json"))
    matched = ""
    for role in ("match_steps", "matched"):
        if (other := record["inputs"].get(role)) is not None:
            of = stored(folder.parent / other)
            dose = cast(DoseEntry, record["settings"].get("dose", {"by": "steps", "times": 1.0}))
            times = "" if dose["times"] == 1.0 else f"{dose['times']:g} x "
            matched = f"{times}{other if of is None else of['name']}, by {dose['by']}"
    stages = re.sub(r"-s\d+$", "", name)
    yield Trained(stages, matched, report["steps"], report.get("examples_trained"), report["tokens"])


_CAPTION = (
    "How much each stage was trained; of seeds that were trained alike the first. Tokens are those that the model "
    "reads, prompts included. Where the doses of two interventions differ, so may their effects for that reason alone: "
    "`match` in the config gives all the steps, examples or tokens of one."
)


def doses_html(run: RunData) -> str:
    """A row for each stage."""
    rows = ""
    for one, count in doses_of(run):
        examples = "–" if one.examples is None else f"{one.examples:,}"
        rows += (
            f'<tr><td class="word">{esc(one.stages)}</td><td class="word">{esc(one.matched or "its own rows")}</td>'
            f"<td>{count}</td><td>{one.steps:,}</td><td>{examples}</td><td>{one.tokens:,}</td></tr>"
        )
    if not rows:
        return ""
    head = (
        '<th class="word">stages, the last of which is counted</th><th class="word">measured by</th><th>adapters</th>'
        "<th>steps</th><th>examples</th><th>tokens</th>"
    )
    return (
        f'<p class="note">{esc(_CAPTION)}</p><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
