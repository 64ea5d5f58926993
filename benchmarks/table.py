"""Rows of a benchmark: what is printed and what is written."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def median_ratio(own: Sequence[float], theirs: Sequence[float]) -> float:
    """Of measurements taken in turns, so that a slow minute of the machine is in both."""
    return statistics.median(a / b for a, b in zip(own, theirs, strict=True))


def row(name: str, ours: float, peer: float, peer_name: str, unit: str, ratio: float, aim: float, limit: str) -> Row:
    """A line of the table, which is also said as soon as it is known.

    `limit` says what keeps the ratio from being larger.
    """
    print(f"{name}: {ours:.4g} against {peer:.4g} {peer_name}, ratio {ratio:.2f}", file=sys.stderr, flush=True)
    return {
        "name": name, "ours": round(ours, 2), "peer": round(peer, 2), "peer_name": peer_name, "unit": unit,
        "ratio": round(ratio, 3), "aim": aim, "limit": limit,
    }  # fmt: skip


def report(rows: Sequence[Row], out: Path | None) -> None:
    """Print the table; write `{"cases": rows}`."""
    table = Table()
    for column in ("case", "ours", "peer", "unit", "ratio", "aim", "limited by"):
        table.add_column(column)
    for one in rows:
        peer = f"{one['peer']:g} {one['peer_name']}"
        ratio, aim = f"{one['ratio']:.2f}", f"{one['aim']:g}"
        table.add_row(one["name"], f"{one['ours']:g}", peer, one["unit"], ratio, aim, one["limit"])
    Console(width=160).print(table)
    if out is not None:
        out.write_text(json.dumps({"cases": list(rows)}, indent=2) + "\n")
