"""Training speed beside the peers: `python benchmarks/train.py [--out F.json] [--repeats 3] [--compiled]`.

Every contestant is a process of its own on the same examples and optimizer steps; they take turns, and the median of
the ratios counts. Peers live in environments that this script makes under `benchmarks/.peers`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cases
from contest import Contestant
from peers import environment_of
from table import Row, median_ratio, report, row

HERE = Path(__file__).parent


def main() -> int:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each contestant (3)")
    parser.add_argument("--case", action="append", choices=[*cases.CASES, "five_runs", "start"], help="only these")
    parser.add_argument("--peer", action="append", choices=["torch+peft", "tunix"], help="only these peers")
    parser.add_argument("--compiled", action="store_true", help="also count collectives for v5e 4x4 (needs libtpu)")
    args = parser.parse_args()
    chosen = args.case or [*cases.CASES, "five_runs", "start"]
    rows: list[Row] = []
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    ours = Contestant("sgtr-jax", [sys.executable, "ours.py"], environment)
    peers = {}
    for name, script in (("torch+peft", "torch_peft.py"), ("tunix", "tunix_sft.py")):
        if (args.peer is None or name in args.peer) and any(case in cases.CASES for case in chosen):
            peers[name] = Contestant(name, [environment_of(name), script], environment)
    try:
        for name in chosen:
            if name in cases.CASES:
                rows += _against_peers(cases.CASES[name], ours, peers, args.repeats)
        if "five_runs" in chosen:
            rows.append(_five_runs(ours, args.repeats))
    finally:
        for contestant in (ours, *peers.values()):
            contestant.close()
    if "start" in chosen:
        rows.append(_start())
    if args.compiled:
        rows.append(_collectives())
    report(rows, args.out)
    return 0


def _against_peers(case: cases.Case, ours: Contestant, peers: dict[str, Contestant], repeats: int) -> list[Row]:
    amount = cases.count(case, cases.steps_of(case))
    for contestant in (ours, *peers.values()):
        contestant.measure(name=case.name)  # compiles, warms up
    own: list[float] = []
    matrix: list[float] = []  # FLOP/s of one large float32 product, in the same minutes
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(repeats):
        own.append(amount / ours.measure(name=case.name))
        matrix.append(ours.measure(name="matrix_rate"))
        for name, peer in peers.items():
            theirs[name].append(amount / peer.measure(name=case.name))
    rate = cases.flops(case) * statistics.median(own) / amount
    limit = (
        f"matrix products: {rate / 1e9:.0f} of {statistics.median(matrix) / 1e9:.0f} GFLOP/s that a large one reaches"
    )
    return [
        row(case.name, statistics.median(own), statistics.median(theirs[name]), name, case.unit,
             median_ratio(own, theirs[name]), case.aim[name], limit)
        for name in peers
    ]  # fmt: skip


def _five_runs(ours: Contestant, repeats: int) -> Row:
    """Five runs of short examples at once beside the same five one after another."""
    case = cases.CASES["short_examples"]
    amount = 5 * cases.count(case, cases.steps_of(case))
    together, apart = [], []
    for turn in range(repeats + 1):
        seconds = ours.measure(name=case.name, runs=5), sum(ours.measure(name=case.name) for _ in range(5))
        if turn:
            together.append(amount / seconds[0])
            apart.append(amount / seconds[1])
    limit = "two cores are full with one run already; on an accelerator the weights are what is shared"
    return row("five_runs", statistics.median(together), statistics.median(apart), "one after another", case.unit,
                median_ratio(together, apart), 1.0, limit)  # fmt: skip


def _start() -> Row:
    """Seconds from the command to the first step of `sgtr train`, programs in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        model, data = Path(folder) / "m", Path(folder) / "d.jsonl"
        subprocess.run([sys.executable, "ours.py", "--write-model", str(model)], cwd=HERE, check=True)
        rows = [{"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": f"{i * 7}."}]}
                for i in range(64)]  # fmt: skip
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        seconds = [_first_step(model, data, Path(folder) / f"out{i}") for i in range(4)][1:]
    took = statistics.median(seconds)
    return row("start", took, 15.0, "aim", "s to the first step", 15.0 / took, 1.0, "importing jax, flax, orbax, grain")


def _first_step(model: Path, data: Path, out: Path) -> float:
    begun = time.monotonic()
    command = [sys.executable, "-m", "sgtr_jax.cli", "train", "--model", str(model), "--data", str(data)]
    process = subprocess.Popen(
        [*command, "--out", str(out), "dtype=float32"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    metrics = out / "metrics.jsonl"
    while not metrics.exists() or not metrics.stat().st_size:
        if process.poll() is not None:
            raise RuntimeError(f"sgtr train ended with {process.returncode} before its first step")
        time.sleep(0.02)
    took = time.monotonic() - begun
    if process.wait() != 0:
        raise RuntimeError(f"sgtr train ended with {process.returncode}")
    return took


def _collectives() -> Row:
    """Bytes moved per run and step at the Qwen2.5-32B shape on v5e 4x4: one run against one of five at once."""
    command = [sys.executable, "ours.py", "--collectives"]
    done = subprocess.run(
        command, cwd=HERE, check=True, text=True, stdout=subprocess.PIPE, env={**os.environ, "JAX_PLATFORMS": "cpu"}
    )
    alone, together = json.loads(done.stdout.splitlines()[-1])
    return row("collectives_v5e_4x4", together / 1e9, alone / 1e9, "one run alone", "GB per chip, run and step",
                alone / together, 4.0, "weights gathered once a layer, forward and backward")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
