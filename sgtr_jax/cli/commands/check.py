"""`sgtr check`: whether files are as they were made."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands, add_run_dir


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "check",
        "Read every file of a run, or of an eval's folder, and say what is damaged.",
        ["sgtr check runs/demo", "sgtr check runs/e    # what sgtr eval --out runs/e wrote"],
        run,
    )
    add_run_dir(parser, "the folder of a run, or the one that `sgtr eval --out` named")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.experiment.check import check

    return check(args.run_dir)
