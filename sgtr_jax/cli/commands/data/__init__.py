"""`sgtr data ...`: the study's data sets by name, one file each action."""

from __future__ import annotations

import sys

from sgtr_jax.cli.parser import Commands, add_all


def add_to(commands: Commands) -> None:
    """Add the command with its actions."""
    parser = commands.add(
        "data",
        "The study's data sets by name.",
        [
            "sgtr data list                   # every set, and what is here",
            "sgtr data fetch unpop",
            "sgtr data check rows.jsonl unpop",
        ],
    )
    add_all(sys.modules[__name__], Commands(parser, "ACTION"))
