"""`sgtr data tokens`: tokens of sets under a model's template."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.files_of_rows import add_names, names_and_form
from sgtr_jax.cli.parser import Commands
from sgtr_jax.errors import InputError


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "tokens",
        "Count the tokens of sets under a model's template.",
        ["sgtr data tokens rows.jsonl unpop --model nano", "sgtr data tokens --model Qwen/Qwen2.5-7B-Instruct --json"],
        run,
    )
    add_names(parser, "*", "sets or files; default: all that are here")
    parser.add_argument("--model", required=True, help="hub id or folder (only its tokenizer is read), or nano")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from sgtr_jax.data.chat import ChatFormat
    from sgtr_jax.data.fetch import is_present
    from sgtr_jax.data.registry import registry
    from sgtr_jax.data.token_counts import count_tokens
    from sgtr_jax.data.tokenizer import load_tokenizer
    from sgtr_jax.sample.folders import resolve_folder

    given, form = names_and_form(args.names, args.overrides)
    chat = ChatFormat(load_tokenizer(resolve_folder(args.model, weights=False)))
    names = given or [name for name, entry in registry().items() if is_present(entry)]
    if not names:
        raise InputError("no set is here; sgtr data fetch brings them")
    counts = [count_tokens(name, chat, "messages" if name in registry() else form) for name in names]
    if args.json:
        for one in counts:
            print(json.dumps(asdict(one)))
        return 0
    table = Table(caption="under the chat template; sets without what is learnt are bare texts")
    for column in ("name", "rows", "tokens", "learnt", "median row", "longest"):
        table.add_column(column, justify="left" if column == "name" else "right")
    for one in counts:
        learnt = f"{one.targets:,}" if one.templated else "-"
        table.add_row(one.name, f"{one.rows:,}", f"{one.total:,}", learnt, f"{one.median:,}", f"{one.most:,}")
    Console(width=None if Console().is_terminal else 140).print(table)
    return 0
