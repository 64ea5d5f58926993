"""`sgtr directions ...`: directions of the residual stream, one file each action."""

from __future__ import annotations

import sys

from sgtr_jax.cli.parser import Commands, add_all


def add_to(commands: Commands) -> None:
    """Add the command with its actions."""
    parser = commands.add(
        "directions",
        "Directions inside the model: extract them, compare them, and rank rows along them.",
        [
            "sgtr directions extract --model nano --positive P.jsonl --negative N.jsonl --out D.safetensors",
            "sgtr directions compare D.safetensors E.safetensors",
            "sgtr directions rank --model nano --direction D.safetensors --layer 2 --data rows.jsonl --out r.jsonl",
        ],
    )
    add_all(sys.modules[__name__], Commands(parser, "ACTION"))
