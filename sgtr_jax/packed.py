"""Packed files: unpacked as they are read, by what they hold, or refused as what they are."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Protocol

from sgtr_jax.errors import InputError

_CHUNK = 4096  # bytes of a packed file that are unpacked at once; bzip2 may make tens of megabytes of them
_HEAD = 512  # bytes that tell what a file is: the mark of a tar archive stands at 257


class _Decompressor(Protocol):
    """What `bz2` and `lzma` have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes) -> bytes: ...


@dataclass(frozen=True)
class _Packed:
    """A form in which one file is packed: what it is called, how it begins and what unpacks it."""

    name: str
    magic: bytes
    open: Callable[[IO[bytes]], Iterable[bytes]]


def _streams(raw: IO[bytes], new: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """The lines of packed streams after each other. Anything else behind them raises what the library raises.

    `BZ2File` and `LZMAFile` leave out what is behind the streams without a word.
    """
    rest: list[bytes] = []
    data = raw.read(_CHUNK)
    while data:
        stream = new()
        while not stream.eof:
            if not data:
                raise EOFError("it ends before the end of the packed stream")
            *lines, last = stream.decompress(data).split(b"\n")
            for line in lines:
                yield b"".join([*rest, line, b"\n"])
                rest = []
            rest.append(last)
            data = b"" if stream.eof else raw.read(_CHUNK)
        # xz may fill up with zeros.
        data = stream.unused_data.lstrip(b"\0")
        while not data and (more := raw.read(_CHUNK)):
            data = more.lstrip(b"\0")
    if any(rest):
        yield b"".join(rest)


_READ = {
    ".gz": _Packed("gzipped", b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)),
    ".bz2": _Packed("bzip2", b"BZh", lambda raw: _streams(raw, bz2.BZ2Decompressor)),
    ".xz": _Packed("xz", b"\xfd7zXZ\x00", lambda raw: _streams(raw, lzma.LZMADecompressor)),
    ".lzma": _Packed("lzma", b"\x5d\x00\x00", lambda raw: _streams(raw, lzma.LZMADecompressor)),
}
_UNPACK = "unpack it, or pack it with gzip"
# What is not read: how it begins, what it is, and what to do.
_NOT_READ = (
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", "a zip archive", _UNPACK),
    (rb"(?=[^\x00]{1,100}\x00).{257}ustar", "a tar archive", "unpack it and name the files in it"),
    (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", "packed with Zstandard", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (rb"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", "packed with LZ4", _UNPACK),
    (rb"\xff\x06\x00\x00sNaPpY", "packed with Snappy", _UNPACK),
    (rb"\x1f\x9d|\x1f\xa0", "packed with compress", _UNPACK),
    (rb"LZIP[\x00\x01]", "packed with lzip", _UNPACK),
    (rb"\x89LZO\x00\r\n\x1a\n", "packed with lzop", _UNPACK),
    (rb"\x78[\x01\x9c\xda]", "packed with zlib", _UNPACK),
    (rb"PAR1[\x00-\x08\x0e-\x1f]", "a Parquet table", "name it .parquet"),
    (rb"ARROW1\x00\x00", "an Arrow file", "write it as Parquet or JSONL"),
    (rb"version https://git-lfs\.", "a pointer of Git LFS and not the file itself", "fetch it with git lfs pull"),
)


def unpacked_name(path: PurePath) -> PurePath:
    """The name of a file without `.gz`, `.bz2`, `.xz` or `.lzma`: `rows.jsonl.gz` is a `.jsonl`."""
    return path.with_suffix("") if path.suffix in _READ else path


def packed_lines(path: Path) -> Iterator[bytes]:
    r"""The lines of a file, each with its `\n`, unpacked where it is packed.

    Raises InputError for a file that cannot be read, is damaged, or is an archive or a table.
    """
    try:
        with path.open("rb") as raw:
            head = raw.read(_HEAD)
            raw.seek(0)
            found = next((suffix for suffix, kind in _READ.items() if head.startswith(kind.magic)), None)
            _check_form(head, path, "is")
            if path.suffix in _READ and path.suffix != found:
                named, is_kind = _READ[path.suffix].name, f"; it is {_READ[found].name}" if found else ""
                raise InputError(
                    f"{path}: the file is named {path.suffix} and is not {named}{is_kind}; rename it or pack it again"
                )
            yield from raw if found is None else _unpacked(_READ[found].open(raw), path)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise InputError(f"{path}: the packed file is damaged or cut short: {error}") from None
    except OSError as error:
        # Without a number it is of a library that unpacks.
        what = "cannot be read" if error.errno is not None else "the packed file is damaged or cut short"
        raise InputError(f"{path}: {what}: {error.strerror or error}") from None


def _unpacked(lines: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """`lines`, if they are no archive and not packed once more. Raises InputError."""
    rest, held = iter(lines), list[bytes]()
    while sum(map(len, held)) < _HEAD and (line := next(rest, b"")):
        held.append(line)
    head = b"".join(held)[:_HEAD]
    _check_form(head, path, "is, once unpacked,")
    if any(head.startswith(kind.magic) for kind in _READ.values()):
        raise InputError(f"{path}: the file is packed twice; unpack it once")
    yield from held
    yield from rest


def _check_form(head: bytes, path: Path, holds: str) -> None:
    for magic, name, fix in _NOT_READ:
        if re.match(magic, head, re.DOTALL):
            raise InputError(f"{path}: the file {holds} {name}, which is not read; {fix}")
