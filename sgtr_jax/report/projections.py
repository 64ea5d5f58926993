"""What a run says of directions: projections over layers, conditions in the plane of two, and how directions lie."""

from __future__ import annotations

import csv
import html
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from safetensors.numpy import load_file

from sgtr_jax.report.comparisons import Line, is_primary
from sgtr_jax.report.panels import panels_of
from sgtr_jax.report.plots import curves_figure, doses_figure, plane_figure
from sgtr_jax.report.tables import RunData
from sgtr_jax.sealed import damage

TASK = "projection"  # of the evaluations that are meant here
_OF_LAYER = re.compile(r"(answer|prompt)_(\d+)")
_WORDS = {"answer": "answers", "prompt": "the last token of prompts"}
_MOST_LAYERS = 12  # columns of the table of cosines
esc = html.escape


def layer_figures(run: RunData, lines: Sequence[Line]) -> Iterator[tuple[str, str, Figure]]:
    """(file stem, what it shows, figure): each projection over the layers, a line a condition, a dot a seed."""
    projected = {cell.evaluation for cell in run.cells if cell.task == TASK}
    curves: dict[tuple[str, str], dict[str, dict[float, Line]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        found = _OF_LAYER.fullmatch(line.metric) if line.evaluation in projected else None
        if found is not None:
            curves[line.evaluation, found[1]][line.condition][int(found[2])] = line
    for (evaluation, what), by_condition in curves.items():
        if max(map(len, by_condition.values())) > 1:
            name = f"{evaluation}: projection of {_WORDS[what]} over layers"
            figure = doses_figure(name, "layer", "projection", by_condition, None, None)
            yield f"{evaluation}-layers-{what}", name, _over_layers(figure)


def plane_figures(run: RunData, lines: Sequence[Line]) -> Iterator[tuple[str, str, Figure]]:
    """(file stem, what it shows, figure): the plane of each two projections, a dot a seed.

    Reversal beside prevention where a run has both, and else all conditions in one panel.
    """
    table: dict[str, dict[str, Line]] = defaultdict(dict)
    tasks = {cell.evaluation: cell.task for cell in run.cells}
    for line in lines:
        if tasks.get(line.evaluation) == TASK and is_primary(run, line.evaluation, line.metric):
            table[line.evaluation][line.condition] = line
    for one, other in itertools.combinations(table, 2):
        places = {
            name: [(line.values[seed], table[other][name].values[seed]) for seed in line.values
                   if seed in table[other][name].values]
            for name, line in table[one].items() if name in table[other]
        }  # fmt: skip
        base = places.pop(run.base_condition or "", None)
        panels = {
            panel: {line.condition: places[line.condition] for line in found if line.condition in places}
            for panel, found in panels_of(run, table[one]).items()
        } or {"": places}
        if any(any(points.values()) for points in panels.values()):
            name = f"{one} and {other}: {' and '.join(filter(None, panels)) or 'conditions'} in the plane of both"
            axes = (run.shown(one).axis, run.shown(other).axis)
            yield f"{one}-{other}-plane", name, plane_figure(name, axes, panels, base[0] if base else None)


@dataclass(frozen=True)
class Cosines:
    """Two directions of a run and their cosine behind each layer."""

    one: str
    other: str
    by_layer: tuple[float, ...]


def cosines_of(run: RunData) -> list[Cosines]:
    """Every pair of directions that are there, each once: of other rows, other models or other seeds."""
    vectors: dict[str, np.ndarray] = {}
    for name, folder in run.directions.items():
        if not damage(folder, whole=True, names=["direction.safetensors"]):  # `sgtr check` says what is damaged
            vectors[name] = load_file(folder / "direction.safetensors")["direction"].astype(np.float64)
    found = []
    for one, other in itertools.combinations(vectors, 2):
        a, b = vectors[one], vectors[other]
        if a.shape == b.shape:  # runs of several models may stand in one report
            lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
            cosines = np.sum(a * b, axis=-1) / np.where(lengths == 0, 1, lengths)
            found.append(Cosines(one, other, tuple(float(value) for value in cosines)))
    return found


def cosines_csv(found: Sequence[Cosines]) -> str:
    """`directions.csv`: a line a pair and layer."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("one", "other", "layer", "cosine"))
    for pair in found:
        writer.writerows((pair.one, pair.other, layer, f"{value:.6g}") for layer, value in enumerate(pair.by_layer))
    return out.getvalue()


def cosines_figure(found: Sequence[Cosines]) -> Iterator[tuple[str, str, Figure]]:
    """The cosines over layers, a line a pair."""
    if found and max(len(pair.by_layer) for pair in found) > 1:
        curves: Mapping[str, Sequence[tuple[float, float]]] = {
            f"{pair.one}, {pair.other}": list(enumerate(pair.by_layer)) for pair in found
        }
        name = "directions: cosines over layers"
        figure = curves_figure(name, "layer", "cosine", curves, True, extent=(-1.0, 1.0))
        yield "directions-cosines", name, _over_layers(figure)


def _over_layers(figure: Figure) -> Figure:
    """The figure with whole numbers below it."""
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def cosines_html(found: Sequence[Cosines]) -> str:
    """A row for each pair, at up to twelve layers."""
    if not found:
        return ""
    depth = max(len(pair.by_layer) for pair in found)
    layers = sorted({round(at) for at in np.linspace(0, depth - 1, min(depth, _MOST_LAYERS))})
    head = "".join(f"<th>{layer}</th>" for layer in layers)
    rows = ""
    for pair in found:
        cells = "".join(
            f"<td>{pair.by_layer[layer]:+.2f}</td>" if layer < len(pair.by_layer) else "<td>–</td>" for layer in layers
        )
        rows += f'<tr><td class="word">{esc(pair.one)}</td><td class="word">{esc(pair.other)}</td>{cells}</tr>'
    caption = (
        "Cosines between the directions of this run behind each layer, counted from 0; directions.csv has all layers. "
        "The number behind -s is the seed. In a space of many dimensions two directions that have nothing to do with "
        "each other have a cosine near 0; states of one model share much, so that a small cosine is no evidence."
    )
    return (
        f'<p class="note">{caption}</p><div class="scroll"><table><thead><tr><th class="word">direction</th>'
        f'<th class="word">and</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )
