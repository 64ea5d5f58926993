"""Bringing data sets: once, checked, into a cache."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TypedDict, cast

from etils import epath

from sgtr_jax.data.registry import BuiltSource, DataSet, HubSource, UrlSource
from sgtr_jax.data.set_files import Rows, content_sha256, read_file
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import new_folder, read_json, user_cache, write_json, write_jsonl
from sgtr_jax.fingerprint import file_fingerprint
from sgtr_jax.json_types import JsonObject
from sgtr_jax.sealed import set_aside

_BLOCK = 1 << 18
_TRIES = 4
_bringing: dict[str, threading.Lock] = {}
OnBytes = Callable[[int], None]
_may_download: ContextVar[bool] = ContextVar("may_download", default=True)


@contextlib.contextmanager
def without_downloads() -> Iterator[None]:
    """Sets that are neither here nor in a folder that mirrors them are refused inside, and not downloaded."""
    token = _may_download.set(False)
    try:
        yield
    finally:
        _may_download.reset(token)


def cache_folder() -> Path:
    """Where fetched sets lie: `SGTR_DATA_CACHE`, or the user's cache."""
    if "SGTR_DATA_CACHE" in os.environ:
        return Path(os.environ["SGTR_DATA_CACHE"])
    return user_cache() / "data"


def is_present(entry: DataSet) -> bool:
    """Whether the set is in the cache, as the registry describes it now and as the code makes it now."""
    stored = _checked(entry)
    if stored is None:
        return False
    same_content = entry.sha256 is None or stored.get("sha256") == entry.sha256
    return same_content and stored.get("rows") == entry.rows and stored.get("made_by") == _made_by(entry)


def _checked(entry: DataSet) -> JsonObject | None:
    """What was written down when the set was brought; None if it is not there, or damaged."""
    try:
        return read_json(cache_folder() / entry.name / "checked.json")
    except InputError:
        return None


def _kept(entry: DataSet) -> Rows | None:
    """The rows in the cache, if they are there and as they came. What is damaged is set aside with a word."""
    folder = cache_folder() / entry.name
    if not is_present(entry):
        return None
    stored = _checked(entry) or {}
    try:
        if "file_sha256" in stored and file_fingerprint(folder / _file_name(entry)) != stored["file_sha256"]:
            raise InputError(f"{folder / _file_name(entry)}: was changed after it was brought")
        rows = _read(folder, entry)
        # An older version wrote down the digest of the rows only.
        if "file_sha256" not in stored and content_sha256(rows) != stored["sha256"]:
            raise InputError(f"{folder / _file_name(entry)}: was changed after it was brought")
    except InputError as error:
        print(f"{error}. Set aside as {set_aside(folder).name}, and brought again", file=sys.stderr)
        return None
    return rows


def _made_by(entry: DataSet) -> str | None:
    """What decides the rows of a set that is made here; None for one that is fetched."""
    if not isinstance(entry.source, BuiltSource):
        return None
    from sgtr_jax.data.build import set_key

    return set_key(entry.name)


def load_set(entry: DataSet, open_protected: bool = False) -> Rows:
    """The rows of a set under our column names, fetched if need be."""
    rows = fetch(entry, open_protected)
    if not entry.columns:
        return rows
    return [{own: row[theirs] for own, theirs in entry.columns.items()} for row in rows]


def fetch(entry: DataSet, open_protected: bool = False, on_bytes: OnBytes = lambda count: None) -> Rows:
    """Bring one set into the cache and return its rows as they are at their source.

    `SGTR_DATA_MIRROR` (a folder, `http(s)://` or `gs://`) stands in for every source. Raises InputError when there is
    no way to have it here, RunError when the way failed or the content is not what the registry says.
    """
    folder = cache_folder() / entry.name
    # A set made here may want one that another thread is bringing.
    with _bringing.setdefault(entry.name, threading.Lock()):
        if (kept := _kept(entry)) is not None:
            return kept
        if not _may_download.get() and not isinstance(entry.source, BuiltSource) and not _mirror_folder():
            raise InputError(f"{entry.name}: is not on this machine; `sgtr data fetch {entry.name}` downloads it")
        with new_folder(folder) as temporary:
            _download(entry, temporary, open_protected, on_bytes)
            rows = _read(temporary, entry)
            _check(entry, rows, temporary)
    return rows


def _mirror_folder() -> bool:
    """Whether the sets come from a folder of this machine."""
    return Path(os.environ.get("SGTR_DATA_MIRROR") or "no mirror").is_dir()


def _check(entry: DataSet, rows: Rows, folder: Path) -> None:
    """Compare what came with the registry, and say so beside it. Raises RunError."""
    digest = content_sha256(rows)
    if len(rows) != entry.rows:
        raise RunError(f"{entry.name}: {len(rows)} rows came, the registry says {entry.rows}")
    if entry.sha256 is not None and digest != entry.sha256:
        raise RunError(f"{entry.name}: the content's sha256 is {digest}, the registry says {entry.sha256}")
    known = {"rows": len(rows), "sha256": digest, "known": entry.sha256 is not None}
    file = file_fingerprint(folder / _file_name(entry))
    write_json(folder / "checked.json", {**known, "made_by": _made_by(entry), "file_sha256": file})


def _read(folder: Path, entry: DataSet) -> Rows:
    return read_file(folder / _file_name(entry), "jsonl" if entry.format == "hub" else entry.format)


def _file_name(entry: DataSet) -> str:
    endings = {"jsonl": "jsonl", "hub": "jsonl", "csv": "csv", "yaml": "yaml", "parquet": "parquet"}
    return f"data.{endings.get(entry.format, 'json')}"


def _download(entry: DataSet, folder: Path, open_protected: bool, on_bytes: OnBytes) -> None:
    target, mirror = folder / _file_name(entry), os.environ.get("SGTR_DATA_MIRROR")
    if isinstance(entry.source, BuiltSource):
        from sgtr_jax.data.build import build_named

        write_jsonl(target, [record.to_json() for record in build_named(entry.name, entry.source.built)])
    elif mirror:
        if entry.mirror is None:
            raise InputError(f"{entry.name}: the mirror {mirror} does not have it; unset SGTR_DATA_MIRROR to fetch it")
        _from_mirror(mirror, entry, target, on_bytes)
    elif isinstance(entry.source, HubSource):
        _from_hub(entry.source, target)
    elif isinstance(entry.source, UrlSource):
        if entry.source.protected is None:
            download(entry.source.url, target, on_bytes)
        else:
            _from_protected(entry, entry.source, target, open_protected, on_bytes)
    else:
        raise InputError(
            f"{entry.name}: it is no file at its source ({entry.source.model_dump()}); "
            "set SGTR_DATA_MIRROR to a mirror that has it"
        )


def _from_mirror(mirror: str, entry: DataSet, target: Path, on_bytes: OnBytes) -> None:
    assert entry.mirror is not None
    if mirror.startswith(("http://", "https://")):
        download(f"{mirror.rstrip('/')}/{entry.mirror}", target, on_bytes)
        return
    source = epath.Path(mirror) / entry.mirror
    if not source.exists():
        raise RunError(f"{source}: the mirror has no such file, though its index names it")
    source.copy(target)
    on_bytes(target.stat().st_size)


def _from_hub(source: HubSource, target: Path) -> None:
    from datasets import load_dataset
    from httpx2 import HTTPError

    try:
        table = load_dataset(source.hub, source.subset, split=source.split, revision=source.revision)
    except (HTTPError, OSError, ValueError) as error:  # what a hub that breaks off and a wrong name are to it
        raise RunError(f"{source.hub}: could not be loaded from the hub: {error}") from error
    with target.open("w", encoding="utf-8") as stream:
        for row in table:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _from_protected(entry: DataSet, source: UrlSource, target: Path, open_protected: bool, on_bytes: OnBytes) -> None:
    """A zip that its authors keep from crawlers. It carries a canary: keep what is in it out of pretraining data."""
    if not open_protected:
        raise InputError(
            f"{entry.name}: its authors publish it behind a password, to keep it out of training corpora; "
            "fetch it with --open-protected, and publish nothing of it in the clear"
        )
    assert source.protected is not None and source.member is not None
    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch) / Path(source.url).name
        download(source.url, packed, on_bytes)
        unpacked = Path(scratch) / "open"
        unpacked.mkdir()
        _unpack(packed, source.protected, unpacked)
        found = sorted(unpacked.rglob(source.member))
        if not found:
            raise RunError(f"{source.url}: holds no {source.member}")
        shutil.copyfile(found[0], target)


def _unpack(packed: Path, password: str, folder: Path) -> None:
    if packed.suffix == ".zip":
        try:
            with zipfile.ZipFile(packed) as archive:
                archive.extractall(folder, pwd=password.encode())
        except (zipfile.BadZipFile, RuntimeError) as error:
            raise RunError(f"{packed.name}: could not be opened: {error}") from error
        return
    try:
        from easy_dataset_share.zipping import unzip_and_decrypt
    except ImportError:
        raise InputError(
            f"{packed.name}: opening it needs easy-dataset-share; pip install 'sgtr-jax[protected]'"
        ) from None
    unzip_and_decrypt(str(packed), password=password, output_dir=str(folder))


def download(url: str, target: Path, on_bytes: OnBytes = lambda count: None) -> None:
    """Download a file, going on after a broken connection where the server can. Raises RunError."""
    part = cache_folder() / "parts" / content_sha256([url])
    part.parent.mkdir(parents=True, exist_ok=True)
    error: Exception | None = None
    for attempt in range(_TRIES):
        try:
            _download_rest(url, part, on_bytes)
            shutil.move(part, target)
            return
        except urllib.error.HTTPError as refused:
            if refused.code not in (408, 416, 429) and refused.code < 500:
                raise RunError(f"{url}: the server answers {refused.code} {refused.reason}") from refused
            if refused.code == 416:  # what is there is not the beginning of what the server has
                part.unlink(missing_ok=True)
            error = refused
        except (OSError, EOFError) as broken:
            error = broken
        time.sleep(0.2 * 2**attempt)
    raise RunError(f"{url}: could not be downloaded in {_TRIES} tries: {error}. The same command goes on from there")


def _download_rest(url: str, part: Path, on_bytes: OnBytes) -> None:
    begun = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    with contextlib.closing(urllib.request.urlopen(request, timeout=30)) as answer:
        going_on = begun > 0 and answer.status == 206
        size = answer.headers.get("Content-Length")
        with part.open("ab" if going_on else "wb") as stream:
            got = 0
            while block := answer.read(_BLOCK):
                stream.write(block)
                got += len(block)
                on_bytes(len(block))
    if size is not None and got < int(size):
        raise EOFError(f"the connection ended after {got} of {size} bytes")


class ListedSet(TypedDict):
    """An entry of the registry as `sgtr data list` shows it; `--json` has its other keys, too."""

    name: str
    kind: str
    about: str
    licence: str
    rows: int
    harmful: bool
    present: bool


def described(entry: DataSet) -> ListedSet:
    """An entry for `sgtr data list`."""
    return cast(ListedSet, {**entry.model_dump(mode="json", exclude_none=True), "present": is_present(entry)})
