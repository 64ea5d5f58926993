"""`sgtr data publish`: a set as ArrayRecord."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sgtr_jax.cli.files_of_rows import FORMS, names_and_form
from sgtr_jax.cli.parser import Commands, add_overrides, at_least, given_text
from sgtr_jax.packed import unpacked_name


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "publish",
        "Write a set as TFDS ArrayRecord, for pods.",
        ["sgtr data publish unpop --to gs://BUCKET/sets", "sgtr data publish rows.jsonl --to published --shards 8"],
        run,
    )
    parser.add_argument("name", metavar="NAME", help="set of the registry, or JSONL or JSON file")
    add_overrides(parser, FORMS)
    parser.add_argument("--to", required=True, type=given_text, metavar="DIR", help="folder or gs:// address")
    parser.add_argument("--shards", type=at_least(1), metavar="N", help="default: by size")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.data.build import records_of
    from sgtr_jax.data.publish import publish
    from sgtr_jax.data.registry import registry

    entry = registry().get(args.name)
    _, form = names_and_form([args.name], args.overrides)
    records = records_of(args.name, form)
    about, licence = (entry.about, entry.licence) if entry else (f"{len(records)} conversations", "")
    if entry is not None and entry.harmful:
        print(f"{args.name} was written to make models do harm: publish it to no open place", file=sys.stderr)
    folder = publish(
        entry.name if entry else unpacked_name(Path(args.name)).stem, records, args.to, about, licence, args.shards
    )
    print(f"{folder}: {len(records)} rows; train on it with --data {folder}")
    return 0
