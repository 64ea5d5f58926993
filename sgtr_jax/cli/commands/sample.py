"""`sgtr sample`: completions of prompts."""

from __future__ import annotations

import argparse
from pathlib import Path

from sgtr_jax.cli.parser import MODEL, Commands, add_adapters, add_overrides, as_path, at_least, say, seed, temperature


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "sample",
        "Sample completions for prompts.",
        [
            "sgtr sample --model nano --prompts prompts.jsonl --out answers.jsonl",
            "sgtr sample --model nano --adapter runs/x/adapter --prompts prompts.jsonl --out x.jsonl --n 4 top_p=0.9",
            "sgtr sample --model nano --chain base= --chain x=runs/x/adapter --prompts prompts.jsonl --out both.jsonl",
        ],
        run,
    )
    add_overrides(parser, "settings, for example top_p=0.9; `sgtr settings sample` lists them", "sample")
    parser.add_argument("--model", required=True, help=MODEL)
    add_adapters(parser)
    parser.add_argument(
        "--chain",
        action="append",
        default=[],
        type=_named_chain,
        metavar="NAME=DIR[,DIR]",
        help="an adapter chain of several to sample from in one batch; NAME= alone is the base model; repeatable",
    )
    parser.add_argument("--prompts", required=True, type=as_path, metavar="FILE", help='JSONL of {"id", "messages"}')
    parser.add_argument("--out", required=True, type=as_path, metavar="FILE", help="JSONL to write")
    parser.add_argument("--n", type=at_least(1), default=1, help="samples per prompt (1)")
    parser.add_argument("--max-tokens", type=at_least(1), default=256, metavar="N", help="tokens of an answer (256)")
    parser.add_argument("--temperature", type=temperature, default=1.0, metavar="T", help="0 is greedy (1)")
    parser.add_argument("--seed", type=seed, default=0, help="of the draws (0)")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.sample.config import SampleCommand

    config = build_config(SampleCommand, apply_overrides({}, args.overrides), "command line")
    from sgtr_jax.data.records import read_prompts

    prompts = read_prompts(args.prompts)
    from sgtr_jax.files import check_writable

    check_writable(args.out.parent)
    from sgtr_jax.distributed.launch import start_jax

    start_jax()
    from sgtr_jax.sample.output_file import sample_to_file

    draws = config.draws(args.max_tokens, args.temperature, args.seed)
    written, new = sample_to_file(args.model, args.adapter, dict(args.chain), prompts, args.n, draws, config, args.out)
    say(f"{args.out}: {written} completions of {len(prompts)} prompts" + ("" if new else ", all sampled before"))
    return 0


def _named_chain(text: str) -> tuple[str, tuple[Path, ...]]:
    name, equals, folders = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR[,DIR]")
    return name, tuple(Path(folder) for folder in folders.split(",") if folder)
