"""`sgtr export`: a model or adapters for other programs."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import MODEL, Commands, add_adapters, add_dtype, as_path, at_least, seed
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
            "sgtr export --model OWNER/FINETUNED --as-adapter --base Qwen/Qwen2.5-7B-Instruct --rank 64 --out adapter",
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
    parser.add_argument(
        "--as-adapter", action="store_true", help="write the difference of a checkpoint from --base, at a rank"
    )
    parser.add_argument("--base", metavar="MODEL", help="with --as-adapter: what the checkpoint was finetuned from")
    parser.add_argument("--rank", type=at_least(1), metavar="N", help="with --as-adapter: the rank of the adapter")
    parser.add_argument(
        "--leave-out", action="store_true",
        help="with --as-adapter: leave out, and write down, what no adapter holds: embeddings, norms, biases, the head",
    )  # fmt: skip
    add_dtype(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.files import check_writable

    _check(args)
    check_writable(args.out.parent)
    if args.as_adapter:
        from sgtr_jax.sample.export import export_as_adapter

        written = export_as_adapter(args.model, args.base, args.rank, args.out, args.leave_out)
        print(f"{args.out}: {written}")
        return 0
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


def _check(args: argparse.Namespace) -> None:
    """Raise InputError for arguments that do not go together."""
    extra = {"--base": args.base, "--rank": args.rank, "--leave-out": args.leave_out or None}
    if not args.as_adapter:
        if given := [name for name, value in extra.items() if value is not None]:
            raise InputError(f"export: {', '.join(given)}: only with --as-adapter")
        return
    others = {
        "--run": args.run, "--condition": args.condition, "--adapter": args.adapter or None, "--push": args.push,
        "--merge": args.merge or None, "--dtype": args.dtype,
    }  # fmt: skip
    if given := [name for name, value in others.items() if value is not None]:
        raise InputError(f"export --as-adapter: {', '.join(given)} cannot be given with it")
    needed = {"--model": args.model, "--base": args.base, "--rank": args.rank}
    if missing := [name for name, value in needed.items() if value is None]:
        raise InputError(f"export --as-adapter: give {', '.join(missing)}, too")
