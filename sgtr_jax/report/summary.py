"""The report's beginning: what was run, what it shows, and what would settle the rest, in words and in one table."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scipy.stats import norm

from sgtr_eval.statistics import Interval
from sgtr_jax.report.comparisons import Line, is_primary
from sgtr_jax.report.contrasts import LEVEL, NONE_SHOWN, NOT_MEASURED, NOT_SHOWN, Tested
from sgtr_jax.report.run_file import ConditionEntry, StageEntry
from sgtr_jax.report.tables import RunData

_POWER = 0.8
_MOST_SEEDS = 100  # more are called out of reach
esc = html.escape


@dataclass(frozen=True)
class Row:
    """A comparison of the table: what is said of it, and what would settle it where it is open."""

    of: str
    against: str
    evaluation: str
    difference: Interval
    seeds: int
    p: float
    found: str
    is_open: bool


def rows_of(run: RunData, lines: Sequence[Line], tested: Sequence[Tested]) -> list[Row]:
    """The primary family; without one all contrasts; without any each condition against the base model."""
    chosen = [one for one in tested if one.primary] or list(tested)
    if chosen:
        return [
            Row(one.of, one.against, one.evaluation, one.difference, one.of_seeds, one.p_decisive, one.found,
                one.found in (NONE_SHOWN, NOT_SHOWN, NOT_MEASURED))
            for one in chosen
        ]  # fmt: skip
    return list(_against_base(run, lines))


def _against_base(run: RunData, lines: Sequence[Line]) -> Iterator[Row]:
    for line in lines:
        gap = line.difference
        if gap is None or not is_primary(run, line.evaluation, line.metric):
            continue
        shown = line.p_corrected < LEVEL
        found = ("higher" if gap.mean > 0 else "lower") if shown else NONE_SHOWN
        base = run.base_condition or ""
        yield Row(line.condition, base, line.evaluation, gap, len(line.values), line.p_corrected, found, not shown)


def seeds_needed(row: Row) -> float:
    """Seeds with which a difference as large as the measured one is shown in 80 of 100 runs.

    From the width of its interval, which shrinks with the root of the seeds (Cohen 1988, chapter 2, for a normal
    estimate). NaN where one seed was run, which shows no spread, or no difference was measured.
    """
    gap = row.difference
    if row.seeds < 2 or math.isnan(gap.low) or math.isnan(gap.mean):
        return math.nan
    if gap.mean == 0:
        return math.inf
    quantile = float(norm.ppf(1 - LEVEL / 2))
    error = (gap.high - gap.low) / 2 / quantile
    needed = row.seeds * ((quantile + float(norm.ppf(_POWER))) * error / gap.mean) ** 2
    return max(float(math.ceil(needed)), row.seeds + 1.0)


def summary_html(run: RunData, lines: Sequence[Line], tested: Sequence[Tested]) -> str:
    """Words, the table, and each condition's stages in order."""
    rows = rows_of(run, lines, tested)
    return _words(run, rows, any(one.primary for one in tested)) + _table(rows) + _stages(run)


def _words(run: RunData, rows: Sequence[Row], primary: bool) -> str:
    evaluations = list(dict.fromkeys(cell.evaluation for cell in run.cells))
    models = ", ".join(dict.fromkeys(config["model"] for config in run.configs))
    seeds = sorted({seed for config in run.configs for seed in config["seeds"]})
    said = [
        f"{len(run.conditions)} conditions of {models}, {_count(len(seeds), 'seed')}, measured by "
        f"{_count(len(evaluations), 'evaluation')} ({', '.join(evaluations)})."
    ]
    if rows:
        shown = sum(not row.is_open for row in rows)
        kind = "primary comparisons" if primary else "comparisons"
        said.append(f"Of {len(rows)} {kind}, {shown} are shown at 5 % and {len(rows) - shown} cannot be concluded.")
    if len(seeds) == 1:
        said.append("One seed is one training run: nothing here says what another run would give.")
    if run.missing:
        said.append(f"{len(run.missing)} of {len(run.cells)} measurements are missing.")
    return f"<p>{esc(' '.join(said))}</p>"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    body = "".join(
        f'<tr><td class="word">{esc(row.of)}</td><td class="word">{esc(row.against)}</td>'
        f'<td class="word">{esc(row.evaluation)}</td><td>{_difference(row.difference)}</td><td>{row.seeds}</td>'
        f"<td>{'–' if math.isnan(row.p) else f'{row.p:.2g}'}</td>"
        f'<td class="word{"" if row.is_open else " star"}">{esc(row.found)}</td>'
        f'<td class="word">{esc(_settled_by(row))}</td></tr>'
        for row in rows
    )
    caption = (
        "Differences with 95 % intervals, and what was found at 5 %. The last column: about so many seeds show a "
        "difference as large as the measured one in 80 of 100 runs, before any correction, if seeds vary as they did."
    )
    head = (
        '<th class="word">condition</th><th class="word">against</th><th class="word">evaluation</th>'
        '<th>difference</th><th>seeds</th><th>p</th><th class="word">found</th><th class="word">would settle it</th>'
    )
    return (
        f'<p class="note">{caption}</p><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _difference(gap: Interval) -> str:
    if math.isnan(gap.mean):
        return "–"
    return f"{gap.mean:+.3g}" + ("" if math.isnan(gap.low) else f" ({gap.low:.3g} to {gap.high:.3g})")


def _settled_by(row: Row) -> str:
    if not row.is_open:
        return ""
    if row.found == NOT_MEASURED:
        return "the missing measurements"
    needed = seeds_needed(row)
    if math.isnan(needed):
        return "two seeds or more"
    return f"more than {_MOST_SEEDS} seeds" if needed > _MOST_SEEDS else f"about {needed:.0f} seeds"


def _begun(model: str, condition: ConditionEntry) -> list[str]:
    """The base model and the adapter that a condition starts from, or the checkpoint in the base's place."""
    start = condition.get("start") or {}
    if start.get("model"):
        return [str(start["model"])]
    return [model, *([str(start["adapter"])] if start.get("adapter") else [])]


def _stages(run: RunData) -> str:
    """A line for each condition: the model and its stages, arrows between them."""
    items = []
    for config in run.configs:
        for name, condition in config["conditions"].items():
            if name in run.conditions:
                steps = [*_begun(config["model"], condition), *map(_stage, condition["stages"])]
                path = " → ".join(f"<b>{esc(step)}</b>" for step in steps)
                items.append(f'<tr><td class="word">{esc(name)}</td><td class="word">{path}</td></tr>')
    return f"<details><summary>Stages</summary><table>{''.join(items)}</table></details>" if items else ""


def _stage(stage: StageEntry) -> str:
    mixed = stage.get("interleave")
    other = f" + {mixed['data']}{', selected' if mixed.get('select') else ''}" if mixed else ""
    return stage["data"] + other + (", inoculated" if stage.get("inoculation") else "")
