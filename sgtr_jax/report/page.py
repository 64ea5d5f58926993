"""The report as one self-contained HTML page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from sgtr_jax.report.table import Summary, cell_text

_STYLE = """
:root { color-scheme: light; --line: #d5d8dc; --soft: #5d6670; --head: #f2f4f6; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2126; }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p.note, caption { color: var(--soft); font-size: .9rem } caption { text-align: left; padding-bottom: .4rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem; width: 100% }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { background: var(--head); font-weight: 600 } th:first-child, td:first-child, td.metric { text-align: left }
figure { margin: 1rem 0 } figure img { max-width: 100%; height: auto }
@media print { body { margin: 0; max-width: none } figure { break-inside: avoid } }
"""


def render_page(
    title: str,
    notes: Sequence[str],
    conditions: Sequence[str],
    table: Mapping[tuple[str, str], Mapping[str, Summary]],
    figures: Sequence[tuple[str, str]],
) -> str:
    """The page; `figures` are (alternative text, data URI)."""
    esc = html.escape
    head = "".join(f"<th>{esc(condition)}</th>" for condition in conditions)
    rows = []
    previous = None
    for (evaluation, metric), cells in table.items():
        first = esc(evaluation) if evaluation != previous else ""
        previous = evaluation
        values = "".join(f"<td>{esc(cell_text(cells.get(condition)))}</td>" for condition in conditions)
        rows.append(f'<tr><td>{first}</td><td class="metric">{esc(metric)}</td>{values}</tr>')
    pictures = "".join(f'<figure><img alt="{esc(alt)}" src="{uri}"></figure>' for alt, uri in figures)
    paragraphs = "".join(f'<p class="note">{esc(note)}</p>' for note in notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{esc(title)}</title><style>{_STYLE}</style></head>
<body><h1>{esc(title)}</h1>{paragraphs}
<h2>Figures</h2>{pictures}
<h2>Table</h2><div class="scroll"><table>
<caption>Mean over seeds; with two seeds both values, with more the 95 % t interval.</caption>
<thead><tr><th>evaluation</th><th>metric</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>
</body></html>
"""
