"""The table of a paper: conditions down, evaluations across."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sgtr_jax.report.comparisons import Line, better
from sgtr_jax.report.tables import RunData

_SPECIAL = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}

_ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "neither": ""}


def to_latex(run: RunData, lines: Sequence[Line]) -> str:
    """A booktabs table: the mean, the standard error over seeds in brackets, a star where Holm's p is below .05."""
    evaluations = list(dict.fromkeys(line.evaluation for line in lines))
    table = {(line.condition, line.evaluation): line for line in lines}
    head = " & ".join(["condition", *(escaped(name) + _ARROWS[better(run, name)] for name in evaluations)])
    body = []
    for condition in run.conditions:
        cells = [_cell(table.get((condition, evaluation))) for evaluation in evaluations]
        body.append(" & ".join([escaped(condition), *cells]) + r" \\")
    return "\n".join(
        [
            "% Needs booktabs. Mean over seeds (standard error); * differs from the base model (Holm, p < .05).",
            "% Arrows point to what is better.",
            r"\begin{tabular}{l" + "r" * len(evaluations) + "}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _cell(line: Line | None) -> str:
    if line is None:
        return "--"
    text = f"{line.over_seeds.mean:.3f}"
    values = list(line.values.values())
    if len(values) > 1:
        mean = sum(values) / len(values)
        error = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
        text += f" ({error:.3f})"
    return text + ("*" if line.p_corrected < 0.05 else "")


def escaped(text: str) -> str:
    """Text with what LaTeX reads as a command written so that it is shown."""
    return "".join(_SPECIAL.get(character, character) for character in text)
