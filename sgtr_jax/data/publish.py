"""Sets for pods: written once as TFDS ArrayRecord, read row by row wherever they lie.

ArrayRecord reads files only. Of a set in a bucket each process copies the shards that hold its own rows to its
cache, once.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import re
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast, overload

from etils import epath

from sgtr_jax.buckets import copy_once, is_address, translate_storage_errors
from sgtr_jax.config import check_name
from sgtr_jax.data.records import Record, parse_training, read_training
from sgtr_jax.data.row_formats import RowFormat
from sgtr_jax.data.set_files import content_sha256
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import parse_json, user_cache
from sgtr_jax.json_types import JsonObject

if TYPE_CHECKING:
    import grain

_REFUSED = re.compile(r"\b[a-z0-9_]+\(\) failed: ([^;]+)")  # `write() failed: No space left on device; writing ...`


def publish(name: str, records: Sequence[Record], to: str, about: str, licence: str, shards: int | None) -> str:
    """Write `records` under `to`/`name` (a folder or gs://) and return the set's folder.

    Appears when complete. Raises InputError if it is there already.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise InputError(f"{error}; rename the file") from None
    with translate_storage_errors(to):
        root = epath.Path(to) / name
        if (found := _folder(root)) is not None:
            raise InputError(f"{found}: a set of that name is there; delete it or choose another folder")
        if not is_address(to):
            return str(_write(root, records, about, licence, shards))
        with tempfile.TemporaryDirectory() as scratch:
            made = _write(epath.Path(scratch) / name, records, about, licence, shards)
            target = root / made.relative_to(epath.Path(scratch) / name)
            target.mkdir(parents=True, exist_ok=True)
            # The description last: what has none is not complete.
            for file in sorted(made.iterdir(), key=lambda file: file.name == "dataset_info.json"):
                file.copy(target / file.name, overwrite=True)
            return str(target)


def _write(root: epath.Path, records: Sequence[Record], about: str, licence: str, shards: int | None) -> epath.Path:
    import tensorflow_datasets as tfds

    from sgtr_jax.data.tfds.chat_records import ChatRecords

    tfds.disable_progress_bar()
    builder = ChatRecords(
        records=records, about=about, licence=licence, sha256=content_sha256(record.to_json() for record in records),
        data_dir=str(root), file_format="array_record",
    )  # fmt: skip
    try:
        with tempfile.TemporaryDirectory() as unused:  # TFDS makes it beside the set otherwise
            settings = tfds.download.DownloadConfig(num_shards=shards)
            builder.download_and_prepare(download_dir=unused, download_config=settings)
    except OSError as error:
        raise RunError(f"{root}: could not be written: {error.strerror or error}") from error
    except RuntimeError as error:  # ArrayRecord's writer has no other for what the system refuses
        refused = _REFUSED.search(str(error))
        if refused is None:
            raise
        raise RunError(f"{root}: could not be written: {refused[1]}") from error
    return epath.Path(builder.data_dir)


def read_records(path: str, form: RowFormat = "messages") -> Sequence[Record]:
    """Training records of a JSONL file, or of a published set's folder or address, which has messages always."""
    if not is_address(path) and not Path(path).is_dir():
        return read_training(Path(path), form)
    if form != "messages":
        raise InputError(f"{path}: a published set holds messages, whatever it was made from; leave format={form} out")
    return Published(path)


class Published(Sequence[Record]):
    """The records of a published set, in the order they were given in, each read when it is asked for.

    A stretch (`rows[100:200]`) is read on several threads.
    """

    def __init__(self, path: str) -> None:
        """Raises InputError when there is no published set at `path`, a folder or an address."""
        self._path = path
        with translate_storage_errors(path):
            folder = _folder(epath.Path(path))
            if folder is None:
                raise InputError(f"{path}: no published set here (no dataset_info.json); `sgtr data publish` makes one")
            described = (folder / "dataset_info.json").read_text()
            if not (folder / "metadata.json").exists():
                raise InputError(f"{folder}: no metadata.json, which has the digest of the rows; publish the set again")
            self._shards, self.fingerprint = _described(described, (folder / "metadata.json").read_text(), folder)
            files = sorted(folder.iterdir())
        records = [file for file in files if ".array_record" in file.name]
        if len(records) != len(self._shards):
            raise InputError(f"{folder}: has {len(records)} of the {len(self._shards)} shards its description names")
        self._folder = Path(folder)
        self._remote: list[epath.Path] = []
        if is_address(path):
            # Equal rows may be published in other shards elsewhere.
            key = hashlib.sha256(f"{self.fingerprint} {described}".encode()).hexdigest()[:32]
            self._folder = user_cache() / "published" / key / folder.parent.name / folder.name
            self._remote = records
            with translate_storage_errors(path):
                for file in set(files) - set(records):
                    copy_once(file, self._folder / file.name)

    def __len__(self) -> int:
        return sum(self._shards)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, int):
            return self[index : index + 1 or None][0]
        import grain  # slow to import

        chosen = range(*index.indices(len(self)))
        with translate_storage_errors(self._path):
            self._download(chosen)
        rows = self._rows[index].to_iter_dataset(grain.ReadOptions(num_threads=16, prefetch_buffer_size=256))
        return [_record(row, f"{self._path}, row {i + 1}") for i, row in zip(chosen, rows, strict=True)]

    def __iter__(self) -> Iterator[Record]:
        return iter(self[:])

    @cached_property
    def _rows(self) -> grain.MapDataset:
        import grain
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(str(self._folder))
        return grain.MapDataset.source(builder.as_data_source(split="train"))

    def _download(self, chosen: range) -> None:
        """Copy the shards that hold these rows, unless they are here. Shards of 10 and 12 rows: 0-9 and 10-21."""
        ends = list(itertools.accumulate(self._shards))
        for shard in {bisect.bisect_right(ends, i) for i in chosen} if self._remote else ():
            copy_once(self._remote[shard], self._folder / self._remote[shard].name)


class _Split(TypedDict):
    shardLengths: list[str]


class _DatasetInfo(TypedDict):
    """What TFDS writes into `dataset_info.json`, as far as it is read here."""

    splits: list[_Split]


class _Metadata(TypedDict):
    sha256: str


def _described(info: str, metadata: str, folder: epath.Path) -> tuple[list[int], str]:
    """Rows of each shard, and the digest of all rows, of a set's two descriptions. Raises InputError."""
    texts = {"dataset_info.json": info, "metadata.json": metadata}
    found, more = (parse_json(text, f"{folder / name}") for name, text in texts.items())
    try:
        (split,) = cast(_DatasetInfo, found)["splits"]
        return [int(rows) for rows in split["shardLengths"]], str(cast(_Metadata, more)["sha256"])
    except (KeyError, TypeError, ValueError, IndexError):
        raise InputError(f"{folder}: its descriptions are no published set's; publish the set again") from None


def _folder(root: epath.Path) -> epath.Path | None:
    """The folder of a set's files under what was given to `publish`, or that folder itself."""
    if not root.exists():
        return None
    found = [root, *root.glob("*/*")]
    return next((folder for folder in found if (folder / "dataset_info.json").exists()), None)


class _StoredTurns(TypedDict):
    role: Sequence[bytes]
    content: Sequence[bytes]
    weight: NotRequired[Sequence[int]]


class _StoredRow(TypedDict):
    """A row as TFDS reads it: turns side by side."""

    id: bytes
    messages: _StoredTurns


def _record(row: _StoredRow, where: str) -> Record:
    roles, contents = row["messages"]["role"], row["messages"]["content"]
    # Sets that were written before turns had weights have none.
    weights = row["messages"].get("weight", [1] * len(roles))
    messages: list[JsonObject] = [
        {"role": role.decode(), "content": content.decode(), **({} if weight else {"weight": 0})}
        for role, content, weight in zip(roles, contents, weights, strict=True)
    ]
    return parse_training({"id": row["id"].decode(), "messages": messages}, where, where)
