"""Rows of a data set on the Hugging Face hub, or in a folder that `datasets` reads."""

from __future__ import annotations

from collections.abc import Iterator

from sgtr_jax.data.table_files import as_json
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.json_types import JsonObject


def hub_rows(name: str, subset: str | None, split: str, revision: str | None) -> Iterator[tuple[str, JsonObject]]:
    """Where each row stands, and the row with all its columns.

    Raises InputError for a set without rows or with columns that are no text, and RunError if it cannot be loaded.
    """
    from datasets import load_dataset
    from httpx2 import HTTPError

    what = "/".join([name, *([subset] if subset else []), split])
    try:
        table = load_dataset(name, subset, split=split, revision=revision)
    except (HTTPError, OSError, ValueError) as error:  # what a hub that breaks off and a wrong name are to it
        raise RunError(f"{what}: could not be loaded from the hub: {error}") from error
    empty = True
    for number, row in enumerate(table, start=1):
        where, empty = f"{what}: row {number}", False
        yield where, {column: as_json(value, f"{where}: {column}") for column, value in row.items()}
    if empty:
        raise InputError(f"{what}: the set has no rows")
