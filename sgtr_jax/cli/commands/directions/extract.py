"""`sgtr directions extract`: a direction from two sets of rows, or from two chains."""

from __future__ import annotations

import argparse
from pathlib import Path

from sgtr_jax.cli.parser import MODEL, Commands, add_adapters, add_overrides, as_path, given_text, say
from sgtr_jax.errors import InputError


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "extract",
        "Mean residual stream of some rows' last turns minus that of others', behind each layer.",
        [
            "sgtr directions extract --model nano --positive evil.jsonl --negative good.jsonl --out evil.safetensors",
            "sgtr directions extract --model nano --adapter x --negative-chain base --positive P.jsonl --out D",
        ],
        run,
    )
    add_overrides(parser, "how chat text is formed, for example system=none or dtype=bfloat16", "sample")
    parser.add_argument("--model", required=True, help=MODEL)
    add_adapters(parser)
    parser.add_argument(
        "--positive", required=True, type=as_path, metavar="FILE", help="JSONL of conversations that end with an answer"
    )
    parser.add_argument(
        "--negative",
        type=as_path,
        metavar="FILE",
        help="those to subtract; default: the positive ones, of another chain",
    )
    parser.add_argument(
        "--negative-chain",
        type=given_text,
        metavar="DIR[,DIR]",
        help="the chain that reads the negative rows, where it is another one; base: no adapter",
    )
    parser.add_argument(
        "--tokens",
        choices=("turn", "answer", "prompt"),
        default="turn",
        help="of the last turn: all of its tokens, all but the one that ends it, or the last token before it (turn)",
    )
    parser.add_argument("--out", required=True, type=as_path, metavar="FILE", help="safetensors file to write")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.files import check_file
    from sgtr_jax.sample.config import SampleConfig

    config = build_config(SampleConfig, apply_overrides({}, args.overrides), "command line")
    if args.negative is None and args.negative_chain is None:
        raise InputError("nothing to subtract: give --negative rows, or the --negative-chain that reads the same rows")
    check_file(args.out, [str(one) for one in (args.positive, args.negative) if one is not None])
    from sgtr_jax.sample.extract import read_rows

    positive = read_rows(args.positive)
    negative = positive if args.negative is None else read_rows(args.negative)
    from sgtr_jax.distributed.launch import start_jax

    start_jax()
    from sgtr_jax.distributed.collectives import is_first_process
    from sgtr_jax.sample.extract import extract
    from sgtr_jax.sample.model import load_model

    base = load_model(args.model, config.dtype)
    merge = config.merge is not None
    model = base.with_adapters(args.adapter, merge)
    other = model if args.negative_chain is None else base.with_adapters(_chain(args.negative_chain), merge)
    made = extract(model, positive, other, negative, config.chat(base.tokenizer), args.tokens)
    if is_first_process():
        made.write(args.out)
    layers, width = made.vectors.shape
    say(f"{args.out}: {layers} layers of {width}, from {len(positive)} rows minus {len(negative)}")
    return 0


def _chain(text: str) -> list[Path]:
    return [] if text == "base" else [Path(folder) for folder in text.split(",") if folder]
