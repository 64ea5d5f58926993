"""`sgtr data fetch`: sets brought into the cache."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from sgtr_jax.cli.parser import Commands, at_least
from sgtr_jax.errors import InputError, RunError

if TYPE_CHECKING:
    from sgtr_jax.data.registry import DataSet


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "fetch",
        "Bring sets into the cache and check them.",
        ["sgtr data fetch unpop articles_xsum", "sgtr data fetch --jobs 8    # all that can be had from here"],
        run,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="sets of the registry; default: all that can be had from here"
    )
    parser.add_argument(
        "--open-protected", action="store_true", help="also sets that their authors keep behind a password"
    )
    parser.add_argument("--jobs", type=at_least(1), default=4, metavar="N", help="at once (4)")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.data.fetch import fetch
    from sgtr_jax.data.registry import find, registry
    from sgtr_jax.progress import Progress

    wanted = [find(name) for name in args.names] or [e for e in registry().values() if _can_be_had(e, args)]
    failures: list[InputError | RunError] = []
    with Progress("fetch", len(wanted), "sets") as progress:

        def one(entry: DataSet) -> None:
            try:
                rows = fetch(entry, args.open_protected)
            except (InputError, RunError) as error:
                failures.append(error)
                progress.advance(1, f"{entry.name} failed")
            else:
                progress.advance(1, f"{entry.name} {len(rows)} rows")

        with ThreadPoolExecutor(max(1, args.jobs)) as pool:
            list(pool.map(one, wanted))
    if failures:
        text = "\n".join(map(str, failures))
        raise InputError(text) if all(isinstance(error, InputError) for error in failures) else RunError(text)
    print(f"{len(wanted)} sets are here and as the registry says")
    return 0


def _can_be_had(entry: DataSet, args: argparse.Namespace) -> bool:
    """Without names: what the mirror has, or what lies at an address."""
    import os

    from sgtr_jax.data.build import inputs_of, named_recipe
    from sgtr_jax.data.registry import BuiltSource, HubSource, UrlSource, find

    if isinstance(entry.source, BuiltSource):
        recipe = named_recipe(entry.name, entry.source.built)
        return all(_can_be_had(find(name), args) for name in inputs_of(recipe))
    if os.environ.get("SGTR_DATA_MIRROR"):
        return entry.mirror is not None
    if isinstance(entry.source, UrlSource):
        return entry.source.protected is None or args.open_protected
    return isinstance(entry.source, HubSource)
