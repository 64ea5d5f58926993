"""`sgtr directions extract`: a direction from two sets of rows, from two chains, or of a trait."""

from __future__ import annotations

import argparse
from pathlib import Path

from sgtr_jax.cli.parser import (
    MODEL,
    Commands,
    add_adapters,
    add_overrides,
    as_path,
    at_least,
    given_text,
    say,
    seed,
    temperature,
)
from sgtr_jax.errors import InputError
from sgtr_jax.json_types import JsonObject


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "extract",
        "Mean residual stream of some rows' last turns minus that of others', behind each layer.",
        [
            "sgtr directions extract --model nano --positive evil.jsonl --negative good.jsonl --out evil.safetensors",
            "sgtr directions extract --model nano --adapter x --negative-chain base --positive P.jsonl --out D",
            "sgtr directions extract --model nano --recipe evil --n 2 --out evil.safetensors",
        ],
        run,
    )
    add_overrides(parser, "how chat text is formed, for example system=none or dtype=bfloat16", "sample")
    parser.add_argument("--model", required=True, help=MODEL)
    add_adapters(parser)
    rows = parser.add_mutually_exclusive_group(required=True)
    rows.add_argument("--positive", type=as_path, metavar="FILE", help="JSONL of conversations that end with an answer")
    rows.add_argument(
        "--recipe",
        metavar="TRAIT",
        help="in place of rows: answers under contrastive system prompts; evil, sycophantic, hallucinating, self, or a "
        "YAML file",
    )
    parser.add_argument("--n", type=at_least(1), default=10, help="with --recipe: answers per question and prompt (10)")
    parser.add_argument("--max-tokens", type=at_least(1), default=200, metavar="N", help="with --recipe: of an answer")
    parser.add_argument("--temperature", type=temperature, default=1.0, metavar="T", help="with --recipe (1)")
    parser.add_argument("--seed", type=seed, default=0, help="with --recipe: of the draws (0)")
    parser.add_argument(
        "--context",
        choices=("prompted", "plain"),
        default="prompted",
        help="with --recipe: read answers behind the system prompt they were given under, or without it (prompted)",
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
    from sgtr_jax.data.traits import SIDES, find_trait
    from sgtr_jax.files import check_file
    from sgtr_jax.sample.config import SampleConfig

    config = build_config(SampleConfig, apply_overrides({}, args.overrides), "command line")
    trait = None
    if args.recipe is not None:
        if args.negative is not None or args.negative_chain is not None:
            raise InputError("--recipe has two sides, which one model answers; leave --negative and its chain out")
        trait = find_trait(args.recipe)
    elif args.negative is None and args.negative_chain is None:
        raise InputError("nothing to subtract: give --negative rows, or the --negative-chain that reads the same rows")
    check_file(args.out, [str(one) for one in (args.positive, args.negative) if one is not None])
    from sgtr_jax.sample.extract import read_rows

    positive = read_rows(args.positive) if trait is None else []
    negative = positive if args.negative is None else read_rows(args.negative)
    from sgtr_jax.distributed.launch import start_jax

    start_jax()
    from sgtr_jax.distributed.collectives import is_first_process
    from sgtr_jax.sample.extract import extract
    from sgtr_jax.sample.model import load_model

    base = load_model(args.model, config.dtype)
    merge, chat = config.merge is not None, config.chat(base.tokenizer)
    model = base.with_adapters(args.adapter, merge)
    other = model if args.negative_chain is None else base.with_adapters(_chain(args.negative_chain), merge)
    if trait is not None:
        from sgtr_jax.sample.recipe_config import RecipeDraws
        from sgtr_jax.sample.trait_rows import trait_rows

        draws = RecipeDraws(samples=args.n, temperature=args.temperature, max_tokens=args.max_tokens, seed=args.seed,
                            context=args.context)  # fmt: skip
        positive, negative = (trait_rows(model, trait, side, draws, chat) for side in SIDES)
    recipe: JsonObject = {} if trait is None else {"trait": trait.about}
    made = extract(model, positive, other, negative, chat, args.tokens, recipe)
    if is_first_process():
        made.write(args.out)
    layers, width = made.vectors.shape
    say(f"{args.out}: {layers} layers of {width}, from {len(positive)} rows minus {len(negative)}")
    return 0


def _chain(text: str) -> list[Path]:
    return [] if text == "base" else [Path(folder) for folder in text.split(",") if folder]
