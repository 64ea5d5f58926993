"""`sgtr judge`: the answers of a run, judged (again)."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands, add_judging, add_run_dir


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "judge",
        "Judge the answers of a run, by its own judge or another one; nothing is sampled.",
        [
            "sgtr judge runs/mine",
            "sgtr judge runs/mine --judge anthropic/claude-sonnet-4-5 --max-cost 20",
            "sgtr judge runs/mine --judge openai/local --base-url http://localhost:8000/v1",
        ],
        run,
    )
    add_run_dir(parser)
    parser.add_argument("--judge", metavar="MODEL", help="any Inspect model; default: the config's")
    add_judging(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.distributed.launch import start_jax
    from sgtr_jax.experiment.run import judge_run

    start_jax()
    given = {"base_url": args.base_url, "mode": args.judge_mode, "max_cost": args.max_cost}
    return judge_run(args.run_dir, args.judge, given, args.yes)
