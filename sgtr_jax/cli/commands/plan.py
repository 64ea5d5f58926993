"""`sgtr plan`: what a run would do and cost."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands, add_config, add_overrides, as_path
from sgtr_jax.errors import InputError


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "plan",
        "Say what a run would do, whether it fits a TPU slice and what it costs.",
        [
            "sgtr plan demo",
            "sgtr plan mine.yaml --topology v5e-8",
            "sgtr plan mine.yaml --topology v6e-8 --parts 4    # what each of four machines would make",
            "sgtr plan mine.yaml --power --pilot runs/pilot    # what these seeds can see, from the spread of a run",
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
    parser.add_argument(
        "--max-hours", type=float, metavar="H",
        help="with --topology: refuse a plan that takes longer than so many hours on the slice (exit code 2)",
    )  # fmt: skip
    parser.add_argument(
        "--power", action="store_true",
        help="simulate the power of the primary contrasts, and say what they can see and how many seeds they want",
    )  # fmt: skip
    parser.add_argument(
        "--pilot",
        type=as_path,
        metavar="RUN",
        help="with --power: take rates and their spread between seeds from a run",
    )
    parser.add_argument(
        "--parts", type=_count, metavar="N", help="what each of N machines would make; see sgtr run --part"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of machines, 1 or more")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.experiment.plan_command import plan

    if args.pilot is not None and not args.power:
        raise InputError("--pilot: is what --power computes from; give --power, too")
    if args.max_hours is not None and args.topology is None:
        raise InputError("--max-hours: hours are those on a slice; give --topology, too")

    return plan(
        args.config, args.overrides, args.topology, args.all_meshes, args.json, args.power, args.pilot, args.max_hours,
        args.parts,
    )  # fmt: skip
