"""Names of sets and files on the command line of `sgtr data`, and the form of the rows of those that are files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.errors import InputError

if TYPE_CHECKING:
    from sgtr_jax.data.row_formats import RowFormat

FORMS = "format=sharegpt, openai, alpaca or prompt_completion: the form of the rows of files, if not messages"


def add_names(parser: argparse.ArgumentParser, nargs: str, text: str) -> None:
    """Add names, among which settings may stand, as they may among the flags."""
    parser.add_argument("names", nargs=nargs, metavar="NAME", help=f"{text}; {FORMS}")
    parser.set_defaults(overrides=[])


def names_and_form(words: Sequence[str], overrides: Sequence[str]) -> tuple[list[str], RowFormat]:
    """The names among `words`, and the form of the rows of those that are files. Raises InputError."""
    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.data.registry import registry
    from sgtr_jax.data.row_formats import RowsOfFiles

    settings = [word for word in words if "=" in word and not Path(word).exists()]
    names = [word for word in words if word not in settings]
    form = build_config(RowsOfFiles, apply_overrides({}, [*settings, *overrides]), "command line").format
    if form != "messages" and not any(name not in registry() for name in names):
        raise InputError(f"format={form}: is the form of files, and none is named; sets of the registry hold messages")
    return names, form
