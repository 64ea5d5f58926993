"""`sgtr jobs`: finetuning jobs behind an API."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands, add_run_dir


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "jobs",
        "List the finetuning jobs of a run whose model is behind an API, or change them.",
        ["sgtr jobs runs/gpt-4.1", "sgtr jobs runs/gpt-4.1 --cancel all", "sgtr jobs runs/gpt-4.1 --pause unpop-s0"],
        run,
    )
    add_run_dir(parser)
    change = parser.add_mutually_exclusive_group()
    for what in ("cancel", "pause", "resume"):
        change.add_argument(f"--{what}", metavar="NAME", help=f"{what} a job, or all")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.experiment.api_jobs import jobs_of_run

    for what in ("cancel", "pause", "resume"):
        if name := getattr(args, what):
            return jobs_of_run(args.run_dir, what, name)
    return jobs_of_run(args.run_dir, None, None)
