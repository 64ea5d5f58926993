"""`sgtr bundle`: a run in one file."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands, add_run_dir, as_path


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "bundle",
        "Pack a run into one file for others: config, data it names, recipes, versions, logs, tables and figures.",
        [
            "sgtr bundle runs/mine --out mine.tar.gz",
            "sgtr bundle runs/mine --adapters --out mine.tar.gz    # with the weights of adapters",
        ],
        run,
    )
    add_run_dir(parser)
    parser.add_argument("--out", type=as_path, required=True, metavar="FILE", help="the .tar.gz file to write")
    parser.add_argument("--adapters", action="store_true", help="take the weights of adapters along")
    parser.add_argument(
        "--no-keys", action="store_true",
        help="what looks like an API key is none; the values of this environment's keys are refused all the same",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.experiment.bundle import write_bundle

    write_bundle(args.run_dir, args.out, args.adapters, args.no_keys)
    return 0
