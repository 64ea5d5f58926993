"""`sgtr run`: a whole experiment."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sgtr_jax.cli.parser import Commands, add_config, add_overrides
from sgtr_jax.errors import InputError

if TYPE_CHECKING:
    from sgtr_jax.experiment.parts import Part


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "run",
        "Run a whole experiment; what is already done is not done again.",
        [
            "sgtr run demo",
            "sgtr run mine.yaml only=reversal seeds=3 finetuning.lora.rank=16",
            "sgtr run mine.yaml --list    # all artifacts, and which are done",
            "sgtr run mine.yaml --smoke   # a small copy on a random model, in minutes",
            "sgtr run mine.yaml mirror=gs://BUCKET/mine --part 2/4    # on the second of four machines",
            "sgtr run mine.tar.gz         # what `sgtr bundle` packed on another machine",
        ],
        run,
    )
    add_config(parser)
    add_overrides(parser, "settings that replace those of the file, for example seeds=3", "experiment")
    parser.add_argument("--list", action="store_true", help="print the graph and what is done, then stop")
    parser.add_argument(
        "--why", metavar="NODE", help="print why a node is to be made, then stop; --list names the nodes"
    )
    parser.add_argument(
        "--no-judge", action="store_true", help="sample the answers that a judge is to read; see sgtr judge"
    )
    parser.add_argument(
        "--smoke", action="store_true",
        help="run a small copy on a random model into runs/NAME-smoke, to see whether anything breaks",
    )  # fmt: skip
    parser.add_argument(
        "--part", metavar="I/N", type=_part,
        help="make part I of N, of as many machines over one mirror, then what others leave; the last one reports",
    )  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="do not ask what an API model or a judge may cost")


def _part(text: str) -> Part:
    from sgtr_jax.experiment.parts import Part

    return Part.parsed(text)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.experiment.status import explain, list_graph
    from sgtr_jax.experiment.unbundle import is_bundle, unpack

    if args.part is not None and args.smoke:
        raise InputError("--part and --smoke: a smoke run is made by one machine; leave one of the two out")
    if is_bundle(args.config):
        args.config = unpack(args.config, args.overrides)
    if args.list:
        return list_graph(args.config, args.overrides)
    if args.why:
        return explain(args.config, args.overrides, args.why)
    from sgtr_jax.config import load_config
    from sgtr_jax.distributed.launch import start_jax
    from sgtr_jax.experiment.config import ExperimentConfig

    load_config(ExperimentConfig, args.config, args.overrides)  # what is wrong in it is said before JAX is imported
    start_jax()
    if args.part is not None:
        from sgtr_jax.experiment.shared_run import run_part

        return run_part(args.config, args.overrides, args.part, judge=not args.no_judge, assume_yes=args.yes)
    from sgtr_jax.experiment.run import run_experiment

    if not args.smoke:
        return run_experiment(args.config, args.overrides, judge=not args.no_judge, assume_yes=args.yes)
    from sgtr_jax.experiment.smoke import write_smoke

    smoke = write_smoke(args.config, args.overrides)
    code = run_experiment(smoke.config, [], judge=not args.no_judge)
    # What was left out may break: only a whole smoke run says that nothing did.
    return code or int(bool(smoke.left_out))
