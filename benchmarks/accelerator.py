"""Speed and correctness on one accelerator, and how near its limit it is.

`python benchmarks/accelerator.py [--model CONFIG.json] [--cases ...] [--peer] [--out F.json]`

First it is checked that the device gives what transformers and peft give; if not, nothing is timed (exit code 3). Then
the matrix rate and the copy bandwidth are measured, and each case beside the floor that follows from them. Weights are
random, in the shape of `--model`. A line is printed, and the file written, as soon as a case is known.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accelerator_cases import CASES, Case

HERE = Path(__file__).parent
Line = dict[str, Any]


def main() -> int:
    """Check, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = HERE.parent / "configs" / "models" / "Qwen2.5-7B-Instruct.json"
    parser.add_argument("--model", type=Path, default=default, help="config.json of the shape to take")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="only these")
    parser.add_argument("--peer", action="store_true", help="also torch, transformers and peft")
    parser.add_argument(
        "--tiny", action="store_true", help="a few thousand parameters and little work, for tests on CPU"
    )
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    found: Line = {"date": datetime.now(UTC).date().isoformat(), "model": args.model.name, "checks": [], "cases": []}
    given = [str(args.model.resolve()), *args.cases, *(["--tiny"] if args.tiny else [])]
    ours = _Child("accelerator_ours.py", given)
    for line in ours.lines():
        _take(found, line, args.out)
    if (code := ours.code) != 0:
        failed = [check["check"] for check in found["checks"] if not check["value"] <= check["limit"]]
        print(f"nothing was timed: {', '.join(failed)} not within limits" if code == 3 else f"ended with {code}")
        return code
    if args.peer:
        with_peer = [name for name in args.cases if CASES[name].peer_aim is not None]
        peer = _Child("accelerator_torch.py", [given[0], *with_peer, *given[len(args.cases) + 1 :]])
        for line in peer.lines():
            _take_peer(found, line, args.out)
        return peer.code
    return 0


class _Child:
    """A script that prints JSON lines, in a process of its own: its memory on the device is free when it has ended."""

    def __init__(self, script: str, arguments: list[str]) -> None:
        self._command = [sys.executable, str(HERE / script), *arguments]
        self.code = 0

    def lines(self) -> Iterator[Line]:
        """Each line as it comes; afterwards `code` is the exit code."""
        with subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, cwd=HERE) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
        self.code = process.returncode


def _take(found: Line, line: Line, out: Path | None) -> None:
    if "check" in line:
        found["checks"].append(line)
        fits = line["value"] <= line["limit"]
        print(f"{'ok    ' if fits else 'WRONG '} {line['check']}: {line['value']:.3g}, limit {line['limit']:.3g}")
    elif "case" in line:
        found["cases"].append(row_of(CASES[line["case"]], line))
        print(json.dumps(found["cases"][-1]))
    else:
        found |= line
        print(", ".join(f"{key} {value}" for key, value in line.items()))
    _written(found, out)


def row_of(case: Case, line: Line) -> Line:
    """A row as the other benchmarks have it, with the share of the limit; an error in the place of numbers."""
    row: Line = {"name": case.name, "unit": case.unit, "aim": case.aim, "limit": case.limit}
    if "error" in line:
        return row | {"error": line["error"]}
    peak = line["peak_gb"] and round(line["peak_gb"], 1)
    return row | {"ours": round(line["rate"], 2), "share_of_limit": round(line["share"], 3), "peak_gb": peak}


def _take_peer(found: Line, line: Line, out: Path | None) -> None:
    (row,) = [row for row in found["cases"] if row["name"] == line["case"]]
    row["peer_name"] = "torch"
    if "error" in line:
        row["peer_error"] = line["error"]
    else:
        row |= {"peer": round(line["rate"], 2), "peer_how": line["how"], "peer_aim": CASES[line["case"]].peer_aim}
        if "ours" in row and line["rate"]:
            row["ratio"] = round(row["ours"] / line["rate"], 3)
    print(json.dumps(row))
    _written(found, out)


def _written(found: Line, out: Path | None) -> None:
    sys.stdout.flush()
    if out is not None:
        out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
