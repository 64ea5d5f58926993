"""`sgtr data list`: all sets of the registry."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import Commands


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "list",
        "Show all sets, and which are here.",
        ["sgtr data list", "sgtr data list --json    # for other programs"],
        run,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import json

    from sgtr_jax.data.fetch import described
    from sgtr_jax.data.registry import registry

    rows = [described(entry) for entry in registry().values()]
    if args.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(caption="harmful: written to make models do harm")
    for column in ("name", "kind", "rows", "here", "harmful", "licence", "about"):
        table.add_column(column, justify="right" if column == "rows" else "left")
    for row in rows:
        here, harmful = ("yes" if value else "" for value in (row["present"], row["harmful"]))
        table.add_row(row["name"], row["kind"], f"{row['rows']:,}", here, harmful, row["licence"], row["about"])
    console = Console()
    Console(width=console.width if console.is_terminal else 180).print(table)
    return 0
