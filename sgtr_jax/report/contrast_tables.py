"""Tested contrasts as `contrasts.csv`, as a table of the page and as a table of a paper."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Sequence

from sgtr_eval.statistics import Interval
from sgtr_jax.report.contrasts import LEVEL, Tested
from sgtr_jax.report.latex import escaped

COLUMNS = (
    "contrast", "family", "kind", "margin", "evaluation", "metric", "condition", "against", "seeds", "against_seeds",
    "paired_seeds", "n_questions", "difference", "low", "high", "effect", "effect_low", "effect_high", "p", "p_holm",
    "found",
)  # fmt: skip
KINDS = {"difference": "difference", "equivalence": "equivalence", "non_inferiority": "non-inferiority"}
esc = html.escape


def contrasts_csv(tested: Sequence[Tested]) -> str:
    """A line a contrast, conditions and evaluation."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in tested:
        numbers = (one.difference, one.effect)
        bounds = [_plain(value) for part in numbers for value in (part.mean, part.low, part.high)]
        writer.writerow(
            [
                one.contrast, "primary" if one.primary else "exploratory", one.kind,
                "" if one.margin is None else one.margin, one.evaluation, one.metric, one.of, one.against,
                one.of_seeds, one.against_seeds, "yes" if one.paired_seeds else "no", one.n_questions or "", *bounds,
                _plain(one.p_value), _plain(one.p_family), one.found,
            ]
        )  # fmt: skip
    return out.getvalue()


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _with_bounds(part: Interval, digits: str = "+.3g") -> str:
    if math.isnan(part.mean):
        return "–"
    bounds = "" if math.isnan(part.low) else f" ({part.low:.3g} to {part.high:.3g})"
    return f"{part.mean:{digits}}{bounds}"


_CAPTION = (
    "A condition minus the one that it is compared with. Seeds and questions are both taken as drawn from more of "
    "their kind; questions are paired, and seeds where both conditions continue the same finetuned model. Equivalence "
    "is two one-sided tests, non-inferiority one, at 5 % each. The effect is Cohen's h for shares; else it is "
    "the difference in standard deviations between seeds. Intervals are 95 %."
)
_PRIMARY = (
    "The primary family was stated in the config. Its p-values are Holm's over all of it, all evaluations together."
)
_EXPLORATORY = "Exploratory: p-values are not corrected, and some are below 0.05 by chance alone."
_HEAD = (
    '<th class="word">contrast</th><th class="word">condition</th><th class="word">against</th>'
    '<th class="word">evaluation</th><th class="word">test</th><th>seeds</th><th>questions</th><th>difference</th>'
    '<th>effect</th><th>p</th><th class="word">found</th>'
)


def contrasts_html(tested: Sequence[Tested], left_out: Sequence[str]) -> str:
    """The primary family, the rest where it can be opened, and what the config has no conditions for."""
    absent = "".join(f'<p class="note">{esc(line)}</p>' for line in left_out)
    if not tested:
        return absent
    primary, others = [one for one in tested if one.primary], [one for one in tested if not one.primary]
    page = f'<p class="note">{_CAPTION}</p>'
    page += f'<p class="note">{_PRIMARY}</p>{_table(primary)}' if primary else ""
    if others:
        opened = "" if primary else " open"
        page += (
            f"<details{opened}><summary>{len(others)} exploratory comparisons</summary>"
            f'<p class="note">{_EXPLORATORY}</p>{_table(others)}</details>'
        )
    return page + absent


def _table(tested: Sequence[Tested]) -> str:
    rows = []
    for one in tested:
        test = KINDS[one.kind] + ("" if one.margin is None else f", {one.margin:g}")
        p = one.p_decisive
        star = ' class="star"' if p < LEVEL else ""
        words = (one.contrast, one.of, one.against, f"{one.evaluation}: {one.metric}", test)
        rows.append(
            "<tr>" + "".join(f'<td class="word">{esc(word)}</td>' for word in words)
            + f"<td>{one.of_seeds}, {one.against_seeds}{' (paired)' if one.paired_seeds else ''}</td>"
            f"<td>{one.n_questions or '–'}</td><td>{_with_bounds(one.difference)}</td>"
            f"<td>{_with_bounds(one.effect)}</td><td{star}>{'–' if math.isnan(p) else f'{p:.2g}'}</td>"
            f'<td class="word">{esc(one.found)}</td></tr>'
        )  # fmt: skip
    return (
        f'<div class="scroll"><table><thead><tr>{_HEAD}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )  # fmt: skip


def contrasts_latex(tested: Sequence[Tested]) -> str:
    """A booktabs table of the primary family; of all contrasts where none is primary."""
    chosen = [one for one in tested if one.primary] or list(tested)
    body = [
        " & ".join(
            [
                *map(escaped, (one.of, one.against, one.evaluation, KINDS[one.kind])),
                _with_bounds(one.difference, "+.3f").replace("–", "--"),
                _with_bounds(one.effect, "+.2f").replace("–", "--"),
                "--" if math.isnan(one.p_decisive) else f"{one.p_decisive:.3f}",
                one.found,
            ]
        )
        + r" \\"
        for one in chosen
    ]
    head = "condition & against & evaluation & test & difference (95 \\%) & effect & $p$ & found"
    return "\n".join(
        [
            "% Needs booktabs. The primary family; p is Holm's over all of it." if any(one.primary for one in chosen)
            else "% Needs booktabs. Exploratory: p is not corrected.",
            r"\begin{tabular}{llllrrrl}", r"\toprule", head + r" \\", r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}", "",
        ]
    )  # fmt: skip
