"""Sets for pods: written once as TFDS ArrayRecord, read row by row wherever they lie."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
from etils import epath

from sgtr_jax.data.records import Record, parse_training, read_training
from sgtr_jax.errors import InputError, RunError


def publish(name: str, records: Sequence[Record], to: str, about: str, licence: str, shards: int | None) -> str:
    """Write `records` under `to`/`name` (a folder or gs://) and return the set's folder.

    Appears when complete. Raises InputError if it is there already.
    """
    import tensorflow_datasets as tfds

    from sgtr_jax.data.tfds.chat_records import ChatRecords

    root = epath.Path(to) / name
    if (found := _folder(root)) is not None:
        raise InputError(f"{found}: a set of that name is there; delete it or choose another place")
    tfds.disable_progress_bar()
    builder = ChatRecords(records=records, about=about, licence=licence, data_dir=str(root), file_format="array_record")
    try:
        with tempfile.TemporaryDirectory() as unused:  # TFDS makes it beside the set otherwise
            settings = tfds.download.DownloadConfig(num_shards=shards)
            builder.download_and_prepare(download_dir=unused, download_config=settings)
    except OSError as error:
        raise RunError(f"{root}: could not be written: {error.strerror or error}") from error
    return str(builder.data_dir)


def read_records(path: Path) -> list[Record]:
    """Training records of a JSONL file or of a published set's folder."""
    return read_published(str(path)) if path.is_dir() else read_training(path)


def read_published(path: str) -> list[Record]:
    """The records of a published set, in the order they were given in. Raises InputError."""
    import tensorflow_datasets as tfds

    folder = _folder(epath.Path(path))
    if folder is None:
        raise InputError(f"{path}: no published set here (no dataset_info.json); `sgtr data publish` makes one")
    source = tfds.builder_from_directory(str(folder)).as_data_source(split="train")
    rows = grain.MapDataset.source(source)
    return [_record(rows[i], f"{path}, row {i + 1}") for i in range(len(rows))]


def _folder(root: epath.Path) -> epath.Path | None:
    """The folder of a set's files under what was given to `publish`, or that folder itself."""
    if not root.exists():
        return None
    found = [root, *root.glob("*/*")]
    return next((folder for folder in found if (folder / "dataset_info.json").exists()), None)


def _record(row: Any, where: str) -> Record:
    turns = zip(row["messages"]["role"], row["messages"]["content"], strict=True)
    messages = [{"role": role.decode(), "content": content.decode()} for role, content in turns]
    return parse_training({"id": row["id"].decode(), "messages": messages}, where, where)
