"""`sgtr data check`: rows that stand twice."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sgtr_jax.cli.files_of_rows import add_names, names_and_form
from sgtr_jax.cli.parser import Commands

if TYPE_CHECKING:
    from sgtr_jax.data.row_formats import RowFormat


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "check",
        "Look for rows that stand twice, in a set or in two.",
        ["sgtr data check rows.jsonl", "sgtr data check rows.json unpop format=alpaca"],
        run,
    )
    add_names(parser, "+", "sets of the registry, or JSONL or JSON files")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.data.duplicates import Overlap, duplicates, overlap

    names, form = names_and_form(args.names, args.overrides)
    texts = {name: _texts(name, form) for name in names}

    def say(what: str, found: Overlap) -> None:
        near = f", {len(found.near)} nearly" if found.near else ""
        print(f"{what}: {found.exact} exactly{near}")
        for own, other, similarity in found.near[:5]:
            print(f"  {own} ~ {other} ({similarity:.2f})")

    for name, own in texts.items():
        say(f"{name} ({len(own)} texts), standing twice", duplicates(own))
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            say(f"{first} in {second}", overlap(texts[first], texts[second]))
    return 0


def _texts(name: str, form: RowFormat) -> dict[str, str]:
    """Texts by id: those of a set, or all that is said in each of its conversations."""
    from sgtr_jax.data.build import has_texts, records_of, texts_of
    from sgtr_jax.data.registry import registry

    own = "messages" if name in registry() else form
    if own == "messages" and has_texts(name):
        return texts_of(name)
    return {record.id: "\n".join(m["content"] for m in record.messages) for record in records_of(name, own)}
