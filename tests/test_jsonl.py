"""The one reader of JSON and JSONL: what it reads rightly, and what it refuses by file and line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtr_jax.data.set_files import read_file
from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json, read_jsonl, write_jsonl

SEPARATORS = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\r\n\r\n\t"
TEXTS = st.text(st.sampled_from([*SEPARATORS, "a", '"', "\\", "\U0001f600", "\ufeff"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(TEXTS, JSON, max_size=4), min_size=1, max_size=6)


def old_lzma(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_ALONE)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]


@settings(max_examples=150, deadline=None)
@given(ROWS, st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\r\n"]), st.booleans(), st.booleans())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    short: bool,
    end: str,
    mark: bool,
    packed: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / ("r.jsonl.gz" if packed else "r.jsonl")
    data = "".join(json.dumps(row, ensure_ascii=short) + end for row in rows).encode("utf-8-sig" if mark else "utf-8")
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    assert rows_of(path) == rows
    write_jsonl(path.with_name("own.jsonl"), rows)
    assert rows_of(path.with_name("own.jsonl")) == rows


def test_lines_are_numbered_as_an_editor_numbers_them(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"a": "x\u2028y\x85z"}\n\n{"a": 1}\n{"a": 2', encoding="utf-8")
    found = read_jsonl(path)
    assert [next(found)[0], next(found)[0]] == [f"{path}:1", f"{path}:3"]
    with pytest.raises(InputError, match=rf"{path}:4: not JSON"):
        next(found)


def test_files_joined_by_a_windows_program_have_marks_inside(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\xef\xbb\xbf{"a": 2}\r\n\xef\xbb\xbf')
    assert rows_of(path) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b" \n\t\r\n\n", "the file is empty"),
        (b"[1]\n", ":1: expected a JSON object, found list"),
        (b"null\n", ":1: expected a JSON object, found NoneType"),
        (b'{"a": 1}\n7\n', ":2: expected a JSON object, found int"),
        (b'{"a": 1}\r{"a": 2}\r', ":1: not JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}\n', ":1: key 'c' is given twice in one object"),
        (b'{"a": 1}\n{"a": ["\\ud83d"]}\n', r":2: the text holds half of a surrogate pair, \ud83d"),
        (b'{"\\uDE00": 1}\n', r":1: the text holds half of a surrogate pair, \ude00"),
        (b'{"a": "\\ude00\\ud83d"}\n', r":1: the text holds half of a surrogate pair, \ude00"),
        (b'{"a": "\xed\xa0\xbd"}\n', ":1: byte 8 of the line is not UTF-8"),
        ('{"a": 1}\n'.encode("utf-16"), "UTF-16; save it as UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}\n", ":1: not JSON"),
        (b"\x00\x01\x02\x03", ":1: not JSON"),
        (b"\x89PNG\r\n\x1a\n\x00", ":1: byte 1 of the line is not UTF-8"),
        (gzip.compress(b'{"a": 1}\n' * 3000, mtime=0)[:-20], "the packed file is damaged or cut short"),
        (b"\x1f\x8b\x08\x00nonsense", "the packed file is damaged or cut short"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (bz2.compress(b'{"a": 1}\n' * 3000)[:-20], "the packed file is damaged or cut short"),
        (b"BZh9nonsense and more of it", "the packed file is damaged or cut short"),
        (lzma.compress(b'{"a": 1}\n' * 3000)[:-20], "the packed file is damaged or cut short"),
        (lzma.compress(b'{"a": 1}\n')[:30] + b"nonsense" * 9, "the packed file is damaged or cut short"),
        (b"PK\x03\x04\x14\x00", "the file is a zip archive, which is not read; unpack it"),
        (b"\x28\xb5\x2f\xfd\x04", "the file is packed with Zstandard, which is not read; unpack it"),
        (b"PK\x05\x06" + bytes(18), "the file is a zip archive"),
        (b"\x50\x2a\x4d\x18\x00\x00\x00\x00", "the file is packed with Zstandard"),
        (b"\x02\x21\x4c\x18\x00", "the file is packed with LZ4"),
        (b"\x1f\x9d\x90{", "the file is packed with compress"),
        (b"LZIP\x01\x0c", "the file is packed with lzip"),
        (b"\x89LZO\x00\r\n\x1a\n\x10", "the file is packed with lzop"),
        (zlib.compress(b'{"a": 1}\n'), "the file is packed with zlib"),
        (b"PAR1\x15\x04", "the file is a Parquet table, which is not read; name it .parquet"),
        (b"ARROW1\x00\x00", "the file is an Arrow file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "fetch it with git lfs pull"),
        (gzip.compress(gzip.compress(b'{"a": 1}\n', mtime=0), mtime=0), "the file is packed twice; unpack it once"),
        ('{"a": 1}\n'.encode("utf-32"), "UTF-32; save it as UTF-8"),
        # Rows that stand unpacked behind packed ones would be left out.
        (bz2.compress(b'{"a": 1}\n') + b'{"a": 2}\n', "the packed file is damaged or cut short"),
        (lzma.compress(b'{"a": 1}\n') + b'{"a": 2}\n', "the packed file is damaged or cut short"),
        (gzip.compress(b'{"a": 1}\n', mtime=0) + b'{"a": 2}\n', "the packed file is damaged or cut short"),
        (b'{"a": ' * 100_000, ":1: JSON nested too deeply"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, data: bytes, part: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        rows_of(path)
    assert str(caught.value).startswith(str(path)) and part in str(caught.value) and len(str(caught.value)) < 400


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read: No such file"):
        rows_of(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        rows_of(tmp_path)
    (tmp_path / "r.jsonl.gz").write_text('{"a": 1}\n')
    with pytest.raises(InputError, match=r"r\.jsonl\.gz: the file is named \.gz and is not gzipped"):
        rows_of(tmp_path / "r.jsonl.gz")


@pytest.mark.parametrize(
    ("pack", "ending"), [(gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz"), (old_lzma, "lzma")]
)
def test_packed_files_are_read_by_what_they_hold(tmp_path: Path, pack: Callable[[bytes], bytes], ending: str) -> None:
    data = pack('\ufeff{"a": "x\u2028"}\n{"a": 2}\n'.encode())
    for name in (f"r.jsonl.{ending}", "r.jsonl"):
        (tmp_path / name).write_bytes(data)
        assert rows_of(tmp_path / name) == [{"a": "x\u2028"}, {"a": 2}]
    wrong = tmp_path / f"r.jsonl.{'xz' if ending == 'gz' else 'gz'}"
    wrong.write_bytes(data)
    with pytest.raises(InputError, match=r"the file is named .* and is not .*; it is .*; rename it"):
        rows_of(wrong)


@pytest.mark.parametrize("pack", ["", "gz", "bz2", "xz"])
def test_a_tar_archive_is_none_of_rows(tmp_path: Path, pack: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    with tarfile.open(tmp_path / "r.tar", f"w:{pack}") as archive:
        archive.add(tmp_path / "rows.jsonl", "rows.jsonl")
    with pytest.raises(InputError, match=r"a tar archive, which is not read; unpack it and name the files in it"):
        rows_of(tmp_path / "r.tar")
    text = {"a": "x" * 249 + "ustar"}  # a text that has the mark in the same place
    (tmp_path / "t.jsonl").write_text(json.dumps(text) + "\n")
    assert rows_of(tmp_path / "t.jsonl") == [text]


@given(st.lists(st.binary(max_size=9).map(bytes.hex), min_size=1, max_size=5), st.integers(0, 9), st.data())
@settings(max_examples=30, deadline=None)
def test_streams_behind_each_other_are_one_file(texts: list[str], zeros: int, data: st.DataObject) -> None:
    """As `cat a.xz b.xz` makes them, wherever a row is cut, also with the zeros that xz may fill up with."""
    whole = "".join(json.dumps({"a": text}) + "\n" for text in texts).encode() * 50
    cut = data.draw(st.integers(0, len(whole)))
    with tempfile.TemporaryDirectory() as folder:
        for pack, fill in ((gzip.compress, 0), (bz2.compress, 0), (lzma.compress, 4 * zeros)):
            path = Path(folder) / "r.jsonl"
            path.write_bytes(pack(whole[:cut]) + bytes(fill) + pack(whole[cut:]) + bytes(fill))
            assert rows_of(path) == [{"a": text} for text in texts] * 50


def test_a_pair_of_escapes_is_one_character(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(b'{"a": "\\ud83d\\ude00 \\\\ud83d"}\n')
    assert rows_of(tmp_path / "r.jsonl") == [{"a": "\U0001f600 \\ud83d"}]


def test_the_head_of_a_file_is_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"a": 1}\n\xff\n')
    assert next(read_jsonl(path))[1] == {"a": 1}


def test_json_files_hold_one_object(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(gzip.compress('\ufeff{"a": "x\u2028"}'.encode()))
    assert read_json(path) == {"a": "x\u2028"} and read_file(path, "json_map") == [{"id": "a", "text": "x\u2028"}]
    for data, part in (
        (b"[]", "expected a JSON object, found list"),
        (b"", "not JSON"),
        (b"\xff", "byte 1 of the file"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"{path}: .*{part}"):
            read_json(path)


def test_a_separator_in_a_cell_ends_no_row_of_csv(tmp_path: Path) -> None:
    text = io.StringIO('id,text\r\n1,a\u2028b\x85c\x1cd\r\n2,"e\u2029\nf"\r\n').getvalue()
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert read_file(tmp_path / "t.csv", "csv") == [
        {"id": "1", "text": "a\u2028b\x85c\x1cd"}, {"id": "2", "text": "e\u2029\nf"}
    ]  # fmt: skip
