"""Judges that read the same answers: how far they agree, pair by pair."""

from __future__ import annotations

import csv
import html
import io
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields

from sgtr_jax.errors import InputError
from sgtr_jax.report.run_file import read_artifact
from sgtr_jax.report.tables import CellData, RunData, samples

esc = html.escape


@dataclass(frozen=True)
class Agreement:
    """Two evaluations of the same answers, over all conditions and seeds; answers without both scores are left out."""

    first: str  # evaluation
    second: str
    first_judge: str
    second_judge: str
    n: int
    unscored: int  # answers to which one of the two gave no score
    first_mean: float
    second_mean: float
    changed: float  # share of answers whose verdict differs; NaN of scores that are no verdicts
    kappa: float  # Cohen's (1960), of verdicts; NaN where both said the same of every answer
    spearman: float  # rank correlation, of scores that are no verdicts


def agreements(run: RunData) -> list[Agreement]:
    """Every pair of evaluations whose judges read the same answers, in the order of the config."""
    by_answers: dict[str, dict[str, tuple[CellData, str]]] = {}
    for cell in run.cells:
        if (found := _read(cell)) is not None:
            answers, judge = found
            by_answers.setdefault(answers, {}).setdefault(cell.evaluation, (cell, judge))
    pairs: dict[tuple[str, str], list[tuple[CellData, CellData, str, str]]] = {}
    for cells in by_answers.values():
        for (first, (one, judge)), (second, (other, other_judge)) in itertools.combinations(cells.items(), 2):
            pairs.setdefault((first, second), []).append((one, other, judge, other_judge))
    return [_agreement(*names, found) for names, found in pairs.items()]


def _read(cell: CellData) -> tuple[str, str] | None:
    """The answers that a judge read, and the judge's name; None where no judge did."""
    if cell.why_missing is not None or not cell.judged:
        return None
    try:
        record = read_artifact(cell.folder)
    except InputError:
        return None  # `sgtr check` says what is damaged
    judge, answers = record.get("settings", {}).get("judge"), record["inputs"].get("answers")
    return (answers, str(judge["model"])) if answers is not None and isinstance(judge, dict) else None


def _agreement(first: str, second: str, cells: Sequence[tuple[CellData, CellData, str, str]]) -> Agreement:
    everything = [pair for one, other, _, _ in cells for pair in _values(one, other)]
    both = [(a, b) for a, b in everything if a is not None and b is not None]
    ours, theirs = [a for a, _ in both], [b for _, b in both]
    changed = kappa = spearman = math.nan
    if {*ours, *theirs} <= {0.0, 1.0}:
        changed = sum(a != b for a, b in both) / len(both) if both else math.nan
        kappa = _kappa(ours, theirs)
    else:
        spearman = _spearman(ours, theirs)
    means = [sum(values) / len(values) if values else math.nan for values in (ours, theirs)]
    judges = cells[0][2:]
    return Agreement(
        first, second, *judges, len(both), len(everything) - len(both), means[0], means[1], changed, kappa, spearman
    )


def _values(one: CellData, other: CellData) -> Iterator[tuple[float | None, float | None]]:
    theirs = {row["id"]: row["value"] for row in samples(other)}
    yield from ((row["value"], theirs.get(row["id"])) for row in samples(one))


def _kappa(first: Sequence[float], second: Sequence[float]) -> float:
    if len({*first, *second}) < 2:
        return math.nan
    from sklearn.metrics import cohen_kappa_score  # slow to import

    return float(cohen_kappa_score(first, second))


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return math.nan
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def agreement_csv(found: Sequence[Agreement]) -> str:
    """`judges.csv`: a line a pair."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([field.name for field in fields(Agreement)])
    for one in found:
        writer.writerow(["" if isinstance(part, float) and math.isnan(part) else part for part in astuple(one)])
    return out.getvalue()


def judges_html(found: Sequence[Agreement]) -> str:
    """A row for each pair; nothing where no two judges read the same answers."""
    if not found:
        return ""
    rows = "".join(
        f'<tr><td class="word">{esc(one.first)}</td><td class="word">{esc(one.first_judge)}</td>'
        f'<td class="word">{esc(one.second_judge)}</td><td>{one.n}</td><td>{one.unscored}</td>'
        f"<td>{_short(one.first_mean)}</td><td>{_short(one.second_mean)}</td><td>{_short(one.changed)}</td>"
        f"<td>{_short(one.kappa)}</td><td>{_short(one.spearman)}</td></tr>"
        for one in found
    )
    caption = (
        "Judges that read the same answers, all conditions and seeds together. Answers that one of the two gave no "
        "score are left out and counted. Verdicts: the share that differs, and Cohen's kappa, which is 0 at chance and "
        "has no value where both say the same of every answer. Other scores: Spearman's rank correlation."
    )
    head = (
        '<th class="word">evaluation</th><th class="word">judge</th><th class="word">other judge</th><th>answers</th>'
        "<th>left out</th><th>mean</th><th>other mean</th><th>differ</th><th>kappa</th><th>rank correlation</th>"
    )
    return (
        f'<p class="note">{caption}</p><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _short(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"
