"""`sgtr settings`: every setting with type, default and meaning."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from sgtr_jax.cli.parser import Commands
from sgtr_jax.errors import InputError, nearest

if TYPE_CHECKING:
    from sgtr_jax.experiment.settings import Listed

_USE = {
    "experiment": "an experiment: in its YAML file, and sgtr run FILE key=value",
    "train": "sgtr train key=value",
    "sample": "sgtr sample key=value",
    "summarise": "inspect eval sgtr_eval/summarise -T key=value",
}
_WIDEST = 110


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "settings",
        "List settings with type, default and meaning: of an experiment, train, sample, or an evaluation.",
        [
            "sgtr settings                     # all of an experiment's file",
            "sgtr settings finetuning.lora     # those whose path begins so",
            "sgtr settings train               # all of sgtr train",
            "sgtr settings em_questions        # the arguments of an evaluation",
            "sgtr settings lr                  # wherever there is one of this name",
        ],
        run,
    )
    parser.add_argument(
        "prefix",
        nargs="?",
        metavar="PREFIX",
        help="the beginning of a path, a name at its end, or: experiment, train, sample, an evaluation "
        "(or a path of one of these: train.lora)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.experiment.settings import stored

    known = stored()
    found = _found(known, args.prefix or "experiment")
    if args.json:
        for one in found:
            print(json.dumps(asdict(one)))
        return 0
    width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
    of, section = "", ""
    for one in found:
        if one.of != of:
            print(f"# {_USE.get(one.of, f'sgtr eval {one.of} {one.of}.KEY=value')}")
            of, section = one.of, ""
        if one.section != section:
            print(f"\n## {one.section}")
            section = one.section
        for line in _said(one, width):
            print(line)
    if args.prefix is None:
        others = [name for name in dict.fromkeys(one.of for one in known) if name != "experiment"]
        print()
        print("\n".join(textwrap.wrap(f"Also: sgtr settings WORD with one of: {', '.join(others)}", width)))
    return 0


def _found(known: Sequence[Listed], prefix: str) -> list[Listed]:
    """The settings that a word means. Raises InputError, naming the nearest, if there is none."""
    groups = list(dict.fromkeys(one.of for one in known))
    of, _, rest = prefix.partition(".")
    if of in groups:
        found = [one for one in known if one.of == of and _begins(one.path, rest)]
    else:
        found = [one for one in known if one.of == "experiment" and _begins(one.path, prefix)]
    # `lr` and `lora.rank` are more than the beginning of a path that they end.
    found = found or [one for one in known if f".{one.path}".endswith(f".{prefix}")]
    if not found:
        names = [*groups, *(one.path for one in known), *(one.path.rpartition(".")[2] for one in known)]
        raise InputError(f"settings {prefix!r}: {nearest(prefix, dict.fromkeys(names))}")
    return found


def _begins(path: str, prefix: str) -> bool:
    """Whether a path is `prefix` or below it; names of the user's stand as NAME."""
    return not prefix or path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))


def _said(one: Listed, width: int) -> Iterator[str]:
    default = one.default if one.default in ("required", "as below") else f"default {one.default}"
    yield f"{one.path}   {one.type}; {default}"
    yield from textwrap.wrap(one.description, width, initial_indent="    ", subsequent_indent="    ")
