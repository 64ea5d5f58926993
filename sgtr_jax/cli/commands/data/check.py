"""`sgtr data check`: rows that stand twice."""

from __future__ import annotations

import argparse
from pathlib import Path

from sgtr_jax.cli.parser import Commands
from sgtr_jax.files import unpacked_name


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "check",
        "Look for rows that stand twice, in a set or in two.",
        ["sgtr data check rows.jsonl", "sgtr data check rows.jsonl unpop"],
        run,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="sets of the registry, or JSONL or JSON files")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.data.duplicates import Overlap, duplicates, overlap

    texts = {name: _texts(name) for name in args.names}

    def say(what: str, found: Overlap) -> None:
        near = f", {len(found.near)} nearly" if found.near else ""
        print(f"{what}: {found.exact} exactly{near}")
        for own, other, similarity in found.near[:5]:
            print(f"  {own} ~ {other} ({similarity:.2f})")

    for name, own in texts.items():
        say(f"{name} ({len(own)} texts), standing twice", duplicates(own))
    for i, first in enumerate(args.names):
        for second in args.names[i + 1 :]:
            say(f"{first} in {second}", overlap(texts[first], texts[second]))
    return 0


def _texts(name: str) -> dict[str, str]:
    """Texts by id: those of a set, or all that is said in each of its conversations."""
    from sgtr_jax.data.build import records_of, texts_of
    from sgtr_jax.data.registry import registry

    entry = registry().get(name)
    if (entry.format == "json_map") if entry else unpacked_name(Path(name)).suffix == ".json":
        return texts_of(name)
    return {record.id: "\n".join(m["content"] for m in record.messages) for record in records_of(name)}
