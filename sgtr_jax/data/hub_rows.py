"""Rows of a data set on the Hugging Face hub, or in a folder that `datasets` reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sgtr_jax.data.table_files import as_json
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.json_types import JsonObject


def commit_of(name: str, revision: str | None) -> str:
    """The commit that a branch or tag of a set on the hub is now; None is the newest. Raises RunError."""
    from huggingface_hub import HfApi

    with _loading(name if revision is None else f"{name}@{revision}"):
        commit: str | None = HfApi().dataset_info(name, revision=revision).sha
    if commit is None:
        raise RunError(f"{name}: the hub does not say which commit this is; give revision")
    return commit


def hub_rows(name: str, subset: str | None, split: str, commit: str | None) -> Iterator[tuple[str, JsonObject]]:
    """Where each row stands, and the row with all its columns. `commit` is None for a folder.

    Raises InputError for a set without rows or with columns that are no text, and RunError if it cannot be loaded.
    """
    from datasets import load_dataset

    what = "/".join([name, *([subset] if subset else []), split])
    with _loading(what):
        table = load_dataset(name, subset, split=split, revision=commit)
    empty = True
    for number, row in enumerate(table, start=1):
        where, empty = f"{what}: row {number}", False
        yield where, {column: as_json(value, f"{where}: {column}") for column, value in row.items()}
    if empty:
        raise InputError(f"{what}: the set has no rows")


@contextlib.contextmanager
def _loading(what: str) -> Iterator[None]:
    """What a hub that breaks off and a wrong name are to the clients, as RunError."""
    from httpx2 import HTTPError

    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        raise RunError(f"{what}: could not be loaded from the hub: {error}") from error
