"""`sgtr export`: a model or adapters for other programs."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import MODEL, Commands, add_adapters, add_dtype, as_path, seed
from sgtr_jax.errors import InputError


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "export",
        "Write a model or adapters as Hugging Face / PEFT safetensors.",
        [
            "sgtr export --model nano --adapter runs/x/adapter --out merged --merge",
            "sgtr export --run runs/mine --condition reversal --seed 0 --out reversal-0    # with a model card",
            "sgtr export --run runs/mine --condition reversal --out reversal-0 --push OWNER/NAME",
        ],
        run,
    )
    parser.add_argument("--model", help=MODEL)
    parser.add_argument(
        "--run", type=as_path, metavar="RUN", help="a run, whose model and adapters are meant; with --condition"
    )
    parser.add_argument("--condition", metavar="NAME", help="of the run")
    parser.add_argument("--seed", type=seed, default=0, help="of the condition (0)")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload it to the hub, private, after a question")
    parser.add_argument("--public", action="store_true", help="with --push: for everybody to see")
    parser.add_argument("--yes", action="store_true", help="with --push: do not ask")
    add_adapters(parser)
    parser.add_argument("--out", required=True, type=as_path, metavar="DIR", help="folder to write")
    parser.add_argument("--merge", action="store_true", help="add the adapters into the base weights")
    add_dtype(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.files import check_writable

    check_writable(args.out.parent)
    from sgtr_jax.distributed.launch import start_jax

    start_jax()
    from sgtr_jax.experiment.card import adapters_of, export_with_card, measured_in, push

    model, adapters, measured = args.model, args.adapter, ""
    if args.run is not None:
        if args.condition is None or adapters or model is not None:
            raise InputError("export --run: give --condition (and --seed), and neither --model nor --adapter")
        model, adapters = adapters_of(args.run, args.condition, args.seed)
        measured = measured_in(args.run, args.condition, args.seed)
    elif model is None:
        raise InputError("export: give --model, or --run with --condition")
    written = export_with_card(model, adapters, args.out, args.merge, args.dtype, measured)
    print(f"{args.out}: {written}")
    if args.push is not None:
        print(push(args.out, args.push, args.public, args.yes))
    return 0
