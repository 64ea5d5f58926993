"""Sampling speed beside the peers: `python benchmarks/sample.py [--out F.json] [--repeats 3]`.

Contestants are processes of their own and take turns; the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

import sample_cases
from contest import Contestant
from peers import environment_of
from table import Row, median_ratio, report, row

# Our way against a simpler one of ours: (name, ours, simpler, unit, how many, aim, what limits it).
_OWN = {
    "refill": ("no_refill", "without refill", "rows/s", 256, 1.5,
               "each row's longest stay; the last rows end in a batch that empties"),
    "together": ("in_turn", "one chain after another", "rows/s", 160, 1.5,
                 "matrix products: 32 rows fill two cores; on an accelerator reading the base is shared"),
    "shared": ("unshared", "prefixes not shared", "answers/s", 96, 1.5, "attention over the prefix, for every row"),
}  # fmt: skip


def main() -> int:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each contestant (3)")
    parser.add_argument("--case", action="append", choices=[*sample_cases.CASES, *_OWN], help="only these")
    parser.add_argument("--peer", action="append", choices=["torch", "tunix"], help="only these peers")
    args = parser.parse_args()
    chosen = args.case or [*sample_cases.CASES, *_OWN]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    ours = Contestant("sgtr-jax", [sys.executable, "ours_sample.py"], environment)
    peers = {}
    for name, place, script in (("torch", "torch+peft", "torch_sample.py"), ("tunix", "tunix", "tunix_sample.py")):
        if (args.peer is None or name in args.peer) and any(case in sample_cases.CASES for case in chosen):
            peers[name] = Contestant(name, [environment_of(place), script], environment)
    rows: list[Row] = []
    try:
        for name in chosen:
            if name in _OWN:
                rows.append(_against_ourselves(name, ours, args.repeats))
            else:
                rows += _against_peers(sample_cases.CASES[name], ours, peers, args.repeats)
    finally:
        for contestant in (ours, *peers.values()):
            contestant.close()
    report(rows, args.out)
    return 0


def _against_peers(case: sample_cases.Case, ours: Contestant, peers: dict[str, Contestant], repeats: int) -> list[Row]:
    amount = sample_cases.count(case)
    own: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(repeats + 1):  # the first compiles and warms up
        rates = {"": amount / ours.measure(name=case.name)}
        rates |= {name: amount / peer.measure(name=case.name) for name, peer in peers.items()}
        if turn:
            own.append(rates.pop(""))
            for name, rate in rates.items():
                theirs[name].append(rate)
    limit = "matrix products of the prompts" if case.new == 0 else "reading the weights for every token"
    return [
        row(case.name, statistics.median(own), statistics.median(theirs[name]), name, case.unit,
            median_ratio(own, theirs[name]), case.aim[name], limit)
        for name in peers
    ]  # fmt: skip


def _against_ourselves(name: str, ours: Contestant, repeats: int) -> Row:
    simpler, peer_name, unit, amount, aim, limit = _OWN[name]
    own, theirs = [], []
    for turn in range(repeats + 1):
        rates = amount / ours.measure(name=name), amount / ours.measure(name=simpler)
        if turn:
            own.append(rates[0])
            theirs.append(rates[1])
    return row(name, statistics.median(own), statistics.median(theirs), peer_name, unit, median_ratio(own, theirs),
               aim, limit)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
