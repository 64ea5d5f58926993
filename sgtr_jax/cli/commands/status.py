"""`sgtr status`: how far a run is."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands, given_text


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "status",
        "Say how far a run is: what is done, running, failed and left, and how long each kind took.",
        [
            "sgtr status runs/demo    # also while another process works on it",
            "sgtr status gs://BUCKET/runs/mine",
            "sgtr status runs/demo --json",
        ],
        run,
    )
    parser.add_argument(
        "run_dir", type=given_text, metavar="RUN", help="the run's folder, or the address (gs://) of its mirror"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with every artifact")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.experiment.run_state import show

    return show(args.run_dir, args.json)
