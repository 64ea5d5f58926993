"""`sgtr plan`: what a run would do and cost."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands, add_config, add_overrides


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "plan",
        "Say what a run would do, whether it fits a TPU slice and what it costs.",
        [
            "sgtr plan demo",
            "sgtr plan mine.yaml --topology v5e-8",
            "sgtr plan mine.yaml model=Qwen/Qwen2.5-7B-Instruct --topology v5e-16,v6e-8 --json",
        ],
        run,
    )
    add_config(parser)
    add_overrides(parser, "settings that replace those of the file, for example seeds=3", "experiment")
    parser.add_argument(
        "--topology", metavar="SLICE", help="a TPU slice, or several: v5e-16,v6e-8 (compiled for with libtpu)"
    )
    parser.add_argument("--all-meshes", action="store_true", help="compile for every mesh of the slice")
    parser.add_argument("--power", action="store_true", help="simulate the power of the primary contrasts")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.experiment.plan_command import plan

    return plan(args.config, args.overrides, args.topology, args.all_meshes, args.json, args.power)
