"""`sgtr report`: tables, figures and the page of runs."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands, as_path
from sgtr_jax.errors import InputError


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "report",
        "Make the tables, figures and page of a run again, or of several runs together.",
        ["sgtr report runs/demo", "sgtr report runs/a runs/b --out runs/both"],
        run,
    )
    parser.add_argument("run_dir", type=as_path, nargs="+", metavar="RUN", help="a run's folder, or several")
    parser.add_argument(
        "--out", type=as_path, metavar="DIR", help="folder to write to; needed for several runs (default: the run's)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.report.write import report

    if len(args.run_dir) > 1 and args.out is None:
        raise InputError("report of several runs: give --out, the folder to write to")
    report(*args.run_dir, out=args.out)
    return 0
