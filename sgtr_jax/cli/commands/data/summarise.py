"""`sgtr data summarise`: summaries by any Inspect model."""

from __future__ import annotations

import argparse
import sys

from sgtr_jax.cli.parser import Commands, as_path, at_least
from sgtr_jax.errors import InputError, RunError


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "summarise",
        "Have any Inspect model write summaries of articles.",
        [
            "sgtr data summarise articles_cnn --model sgtr/models/mine --style cnn --out own.json",
            "sgtr data summarise articles.json --model openai/gpt-4.1 --out other.json --limit 100",
        ],
        run,
    )
    parser.add_argument("articles", metavar="ARTICLES", help="set of the registry, or JSON file of id: text")
    parser.add_argument("--model", required=True, help="sgtr/FOLDER, openai/NAME, ...")
    parser.add_argument("--out", required=True, type=as_path, metavar="FILE", help="JSON file of id: summary to write")
    parser.add_argument(
        "--style", choices=("own", "xsum", "cnn", "dailymail"), default="own", help="how it is asked (own)"
    )
    parser.add_argument("--max-tokens", type=at_least(1), default=100, metavar="N", help="tokens of a summary (100)")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (0)")
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="only so many articles")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import tempfile

    from sgtr_jax.data.build import texts_of
    from sgtr_jax.distributed.launch import start_jax
    from sgtr_jax.files import check_file, write_json

    wanted = min(len(texts_of(args.articles)), args.limit or sys.maxsize)
    check_file(args.out, [args.articles])
    if args.model.startswith("sgtr/"):
        start_jax()
    import inspect_ai

    from sgtr_eval.summaries import summaries_of, summarise

    made = summarise(args.articles, args.style, args.max_tokens, args.temperature, args.limit)
    try:
        model = inspect_ai.model.get_model(args.model)
    except (InputError, RunError):
        raise
    except Exception as error:  # noqa: BLE001 - said by whichever provider's package it is
        raise InputError(f"--model {args.model!r}: {error}") from None
    with tempfile.TemporaryDirectory() as logs:
        (log,) = inspect_ai.eval(made, model=model, log_dir=logs, display="plain", log_level="error")
        if log.status != "success":
            raise RunError(f"{args.model}: {log.error.message if log.error else log.status}")
        kept, refused = summaries_of(log)
    write_json(args.out, kept)
    notes = "".join(f"; refused: {count} {why}" for why, count in refused.items())
    print(f"{args.out}: {len(kept)} summaries of {wanted} articles{notes}")
    return 0
