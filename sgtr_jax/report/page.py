"""The report as one self-contained HTML page."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources

from sgtr_jax.report.beside import Published
from sgtr_jax.report.claims import Judged, claims_html
from sgtr_jax.report.comparisons import Line
from sgtr_jax.report.contrast_tables import contrasts_html
from sgtr_jax.report.contrasts import Tested
from sgtr_jax.report.doses import doses_html
from sgtr_jax.report.judges import Agreement, judges_html
from sgtr_jax.report.projections import Cosines, cosines_html
from sgtr_jax.report.provenance import Sources
from sgtr_jax.report.published import published_numbers
from sgtr_jax.report.run_file import SharingEntry
from sgtr_jax.report.summary import summary_html
from sgtr_jax.report.tables import RunData, samples
from sgtr_jax.report.unmatched import unmet_published

_LONGEST = {"question": 600, "answer": 3000}  # characters shown
esc = html.escape


def render_page(
    run: RunData,
    notes: Sequence[str],
    lines: Sequence[Line],
    figures: Sequence[tuple[str, str]],
    zero: Sequence[tuple[str, str]],
    judged: Sequence[Judged],
    tested: Sequence[Tested],
    agreements: Sequence[Agreement],
    directions: Sequence[Cosines],
    beside: tuple[Sequence[Published], Sequence[str]],
    sources: Sources,
    most_answers: int,
) -> str:
    """The page; `figures` are (alternative text, data URI), `zero` those in which every value is zero."""
    assets = resources.files("sgtr_jax.report").joinpath("assets")
    paragraphs = "".join(f'<p class="note">{esc(note)}</p>' for note in notes)
    sections = [
        ("summary", "Summary", summary_html(run, lines, tested)),
        ("claims", "Claims", claims_html(judged)),
        ("contrasts", "Contrasts", contrasts_html(tested, run.left_out)),
        ("figures", "Figures", _figures(figures)),
        ("numbers", "Every number", _numbers(lines)),
        ("zero", "Figures of what is zero everywhere", _figures(zero)),
        ("judges", "Judges side by side", judges_html(agreements)),
        ("directions", "Directions side by side", cosines_html(directions)),
        ("doses", "How much was trained", doses_html(run)),
        ("shared", "What training sets share with evaluations", _shared(run)),
        ("published", "Beside the published numbers", _published(*beside, unmet_published(run, beside[0]))),
        ("answers", "Answers", _answers(run, most_answers)),
        ("missing", "Missing", _missing(run)),
        ("provenance", "Where a number comes from", _provenance(sources)),
    ]
    shown = [(key, title, body) for key, title, body in sections if body]
    links = "".join(f'<a href="#{key}">{esc(title)}</a>' for key, title, _ in shown)
    bodies = "".join(f'<section id="{key}"><h2>{esc(title)}</h2>{body}</section>' for key, title, body in shown)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>{esc(run.name)}</title>
<style>{assets.joinpath("page.css").read_text()}</style></head>
<body><h1>{esc(run.name)}</h1>{paragraphs}<nav>{links}</nav>
{bodies}
<script>{assets.joinpath("page.js").read_text()}</script>
</body></html>
"""


def _figures(figures: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<figure><img alt="{esc(alt)}" src="{uri}"></figure>' for alt, uri in figures)


def _numbers(lines: Sequence[Line]) -> str:
    rows = []
    before: tuple[str, str] | None = None
    for line in lines:
        first = f"{line.evaluation}: {line.metric}" if (line.evaluation, line.metric) != before else ""
        before = (line.evaluation, line.metric)
        seeds = ", ".join(_short(value) for value in line.values.values())
        absent = f" (missing: {', '.join(map(str, line.missing))})" if line.missing else ""
        both = f"{_short(line.over_both.low)} to {_short(line.over_both.high)}" if line.over_both else ""
        gap, p = "", ""
        if line.difference is not None:
            gap = _short(line.difference.mean, sign=True)
            if not math.isnan(line.difference.low):
                gap += f" ({_short(line.difference.low)} to {_short(line.difference.high)})"
            gap += f"; {line.n_questions} questions" if line.n_questions else ""
            p = "" if math.isnan(line.p_corrected) else f"{line.p_corrected:.2g}"
        star = ' class="star"' if line.p_corrected < 0.05 else ""
        rows.append(
            f'<tr><td class="word">{esc(first)}</td><td class="word">{esc(line.condition)}</td>'
            f"<td>{_mean(line)}</td><td>{both}</td><td>{esc(seeds)}</td><td>{len(line.values)}{esc(absent)}</td>"
            f"<td>{line.n}</td><td>{gap}</td><td{star}>{p}</td></tr>"
        )
    head = (
        '<th class="word">evaluation: metric</th><th class="word">condition</th><th>mean</th>'
        "<th>over seeds and questions</th><th>each seed</th><th>seeds</th><th>n</th>"
        "<th>difference from the base model</th><th>p</th>"
    )
    caption = (
        "Mean over seeds with its 95 % interval: of shares Wilson's with the number of answers that the variance "
        "between seeds amounts to, else Student's. Over seeds and questions: both taken as drawn from more of their "
        "kind. Differences are paired question by question where both were asked the same (the number of questions is "
        "given), else over seeds, with the base model's own sampling error. p is two-sided and Holm-corrected over the "
        "conditions of the metric. One seed shows one training run: its interval says nothing about other runs, and it "
        "has no p. Two seeds say little: their intervals are wide. n: answers of one seed."
    )
    return (
        f'<p class="note">{caption}</p><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _mean(line: Line) -> str:
    interval = line.over_seeds
    text = _short(interval.mean)
    if math.isnan(interval.low):
        return text
    return f"{text} ({_short(interval.low)} to {_short(interval.high)})"


def _short(value: float, sign: bool = False) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:+.3g}" if sign else f"{value:.3g}"


def _unmet(unmet: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """Published rows that nothing measured here stands beside, by reason."""
    if not unmet:
        return ""
    count = sum(len(rows) for tables in unmet.values() for rows in tables.values())
    items = ""
    for why, tables in unmet.items():
        named = "; ".join(f"{table}: {', '.join(rows)}" for table, rows in tables.items())
        items += f"<li>{sum(map(len, tables.values()))}, because {esc(why)}: {esc(named)}</li>"
    return f'<p class="note">Published, but not measured here: {count} rows.</p><ul class="note">{items}</ul>'


def _published(
    found: Sequence[Published], absent: Sequence[str], unmet: Mapping[str, Mapping[str, Sequence[str]]]
) -> str:
    if not found and not absent and not unmet:
        return ""
    rows = []
    for one in found:
        theirs = _short(one.published) + (f" ({one.published_error:.2g})" if one.published_error is not None else "")
        ours = _short(one.ours) + (f" ({one.ours_error:.2g})" if one.ours_error is not None else "")
        gap = "–" if one.distance is None else f"{one.distance:+.1f}"
        rows.append(
            f'<tr><td class="word">{esc(one.evaluation)}</td><td class="word">{esc(one.condition)}</td>'
            f"<td>{theirs}</td><td>{one.published_seeds}</td><td>{ours}</td><td>{one.ours_seeds}</td>"
            f'<td>{gap}</td><td class="word">{esc(one.note)}</td></tr>'
        )
    head = (
        '<th class="word">evaluation</th><th class="word">condition</th><th>published (se)</th><th>seeds</th>'
        '<th>ours (se)</th><th>seeds</th><th>difference, standard errors</th><th class="word">note</th>'
    )
    cited = published_numbers()["sources"]
    used = dict.fromkeys(cited[one.evaluation] for one in found if one.evaluation in cited)
    where = "".join(f'<p class="note">{esc(source)}</p>' for source in used)
    none = f'<p class="note">Without a published number: {esc("; ".join(absent))}.</p>' if absent else ""
    none += _unmet(unmet)
    caption = (
        "Standard errors are over seeds. Of one seed, or of several that agree, they are what the answers of a run "
        "amount to: the spread between seeds is missing, and the distance is too large. What is not the same quantity "
        "has no distance."
    )
    table = f'<p class="note">{caption}</p><div class="scroll"><table><thead><tr>{head}</tr></thead>'
    table += f"<tbody>{''.join(rows)}</tbody></table></div>"
    return (table if rows else "") + where + none


def _shared(run: RunData) -> str:
    """A row for every training set, a column for every evaluation: items of the latter that stand in the former."""
    if run.shared is None:
        return '<p class="note">This run was made before it was looked at; `sgtr run` looks at it.</p>'
    if not run.shared:
        return ""
    evaluations = list(dict.fromkeys(one["evaluation"] for one in run.shared))
    cells = {(one["data"], one["evaluation"]): one for one in run.shared}
    head = "".join(f"<th>{esc(name)}</th>" for name in evaluations)
    rows = ""
    for data in dict.fromkeys(one["data"] for one in run.shared):
        found = [cells.get((data, name)) for name in evaluations]
        rows += f'<tr><td class="word">{esc(data)}</td>' + "".join(map(_shared_cell, found)) + "</tr>"
    said = [f"{one['data']} and {one['evaluation']}: {one['why']}" for one in run.shared if one["why"]]
    notes = "".join(f'<p class="note">{esc(note)}</p>' for note in said)
    caption = (
        "Questions or articles of the evaluation whose text stands in a row that is trained on, of how many; letter "
        "case, punctuation and the wording around it do not matter."
    )
    return (
        f'<p class="note">{caption}</p><div class="scroll"><table><thead><tr><th class="word">training set</th>{head}'
        f"</tr></thead><tbody>{rows}</tbody></table></div>{notes}"
    )


def _shared_cell(one: SharingEntry | None) -> str:
    if one is None:
        return "<td>–</td>"
    if one["shared"] is None:
        return "<td>not known</td>"
    star = ' class="star"' if one["shared"] else ""
    return f"<td{star}>{one['shared']} of {one['items']}</td>"


def _answers(run: RunData, most: int) -> str:
    cells = [cell for cell in run.cells if cell.why_missing is None]
    evaluations = list(dict.fromkeys(cell.evaluation for cell in cells))
    questions: dict[str, int] = {}
    every: list[list[object]] = []
    for cell in cells:
        for sample in samples(cell):
            question = questions.setdefault(_cut(sample["question"], "question"), len(questions))
            key = [run.conditions.index(cell.condition), cell.seed, evaluations.index(cell.evaluation), question]
            every.append([*key, _cut(sample["answer"], "answer"), sample["value"], sample["scores"]])
    if not every:
        return ""
    total = len(every)
    rows = every if total <= most else [every[i * total // most] for i in range(most)]
    data = {"conditions": run.conditions, "evaluations": evaluations, "questions": list(questions), "rows": rows}
    left = (
        f" These are {len(rows)} of {total}, evenly chosen; all are in the store, samples.jsonl."
        if total > most
        else ""
    )
    return f"""<p class="note">What the models said and how it was scored.{left}</p>
<div class="filters">
<label>condition<select id="f-condition"><option value="">all</option></select></label>
<label>evaluation<select id="f-evaluation"><option value="">all</option></select></label>
<label>question<select id="f-question"><option value="">all</option></select></label>
<label>score<select id="f-score"><option value="value">value</option></select></label>
<label>from<input id="f-low" type="number" step="any" size="5"></label>
<label>to<input id="f-high" type="number" step="any" size="5"></label>
<label>text<input id="f-text" type="search"></label>
<span class="soft" id="answers-count"></span></div>
<div class="scroll"><table><thead><tr><th class="word">condition</th><th class="word">question</th>
<th class="word">answer</th><th class="word">score</th></tr></thead><tbody id="answers-body"></tbody></table></div>
<button id="answers-more" hidden>more</button>
{_json("answers-data", data)}"""


def _cut(text: str, what: str) -> str:
    longest = _LONGEST[what]
    return text if len(text) <= longest else text[:longest] + " […]"


def _missing(run: RunData) -> str:
    return "".join(
        f'<p class="note">{esc(cell.evaluation)} of {esc(cell.condition)}, seed {cell.seed}: '
        f"{esc(str(cell.why_missing))}</p>"
        for cell in run.missing
    )


def _provenance(sources: Sources) -> str:
    if not sources["cells"]:
        return ""
    return f"""<div class="filters"><label>number<select id="p-cell"></select></label></div>
<pre id="p-trace"></pre>{_json("provenance-data", sources)}"""


def _json(name: str, data: object) -> str:
    """Data for the script. `<` is escaped, so that no text of a model can end the element."""
    text = json.dumps(_finite(data), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _finite(data: object) -> object:
    """The same with null for what JSON has no number for."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data
