"""`sgtr clean`: artifacts that nothing names any more."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands, add_run_dir, as_path


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "clean",
        "List what no config of a run names any more; with --yes remove it.",
        ["sgtr clean runs/mine", "sgtr clean runs/mine other.yaml --yes    # keeps what other.yaml names, too"],
        run,
    )
    add_run_dir(parser)
    parser.add_argument(
        "configs",
        type=as_path,
        nargs="*",
        metavar="CONFIG",
        help="other configs of the run whose artifacts are kept too",
    )
    parser.add_argument("--yes", action="store_true", help="remove")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.experiment.status import clean

    return clean(args.run_dir, args.configs, args.yes)
