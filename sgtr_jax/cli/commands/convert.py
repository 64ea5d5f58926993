"""`sgtr convert`: weights as Flax parameters."""

from __future__ import annotations

import argparse
from pathlib import Path

from sgtr_jax.cli.parser import MODEL, Commands, add_dtype, given_text


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "convert",
        "Convert Hugging Face weights to Flax parameters (Orbax).",
        [
            "sgtr convert --model Qwen/Qwen2.5-7B-Instruct --out models/qwen-7b --dtype bfloat16",
            "sgtr convert --model models/mine --out gs://BUCKET/models/mine",
        ],
        run,
    )
    parser.add_argument("--model", required=True, help=MODEL)
    parser.add_argument(
        "--out", required=True, type=given_text, metavar="DIR", help="folder, or address (gs://BUCKET/FOLDER)"
    )
    add_dtype(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.buckets import is_address
    from sgtr_jax.files import check_writable

    if not is_address(args.out):
        check_writable(Path(args.out).parent)
    from sgtr_jax.distributed.launch import start_jax

    start_jax()
    from sgtr_jax.sample.model import convert_model

    convert_model(args.model, args.out, args.dtype)
    print(f"{args.out}: converted; use it as --model {args.out}")
    return 0
