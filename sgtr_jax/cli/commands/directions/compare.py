"""`sgtr directions compare`: cosines between directions."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands, as_path
from sgtr_jax.errors import InputError


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "compare",
        "Cosines between directions, behind each layer.",
        ["sgtr directions compare evil.safetensors self.safetensors", "sgtr directions compare *.safetensors --json"],
        run,
    )
    parser.add_argument("files", nargs="+", type=as_path, metavar="FILE", help="files of `sgtr directions extract`")
    parser.add_argument("--json", action="store_true", help="one JSON object a pair")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import itertools
    import json

    from sgtr_jax.sample.directions import cosines, read_direction

    if len(args.files) < 2:
        raise InputError("one direction has nothing to be compared with; give two files or more")
    read = {path: read_direction(path) for path in dict.fromkeys(args.files)}
    for (a, one), (b, other) in itertools.combinations(read.items(), 2):
        found = [round(float(value), 6) for value in cosines(one, other)]
        if args.json:
            print(json.dumps({"one": str(a), "other": str(b), "cosines": found}))
        else:
            print(f"{a} and {b}: " + "  ".join(f"{layer}: {value:+.3f}" for layer, value in enumerate(found)))
    return 0
