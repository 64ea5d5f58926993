"""Writing files and folders so that they are either complete or absent, and the one reader of JSON and JSONL."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sgtr_jax.errors import InputError, RunError
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.packed import packed_lines

_MARK = "\ufeff"  # the byte order mark that Windows programs put before UTF-8
# How text in other encodings begins: each character has zeros on one side.
_WIDE = (
    (rb"[^\0]\0\0\0|\0\0\0[^\0]", "UTF-32"),
    (rb"[^\0]\0[^\0]\0|\0[^\0]\0[^\0]", "UTF-16"),
)
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def user_cache() -> Path:
    """Where this user keeps what can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sgtr-jax"


def path_part(text: str) -> str:
    """`text` as one part of a path on any system: what is no letter a to z, digit or one of `._+-` becomes `_`."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip(".") or "_"


def check_writable(folder: Path) -> None:
    """Raise InputError now if `folder` cannot be created or written, not after hours of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: the output folder cannot be written: {error.strerror}") from None


def check_is_file(path: Path, what: str = "") -> None:
    """Raise InputError unless there is a file to be read; `what` it is to be is said."""
    held = f" ({what})" if what else ""
    if path.is_dir():
        raise InputError(f"{path}: is a folder, and a file is expected{held}; name a file in it")
    if not path.is_file():
        raise InputError(f"{path}: no such file{held}")


def check_apart(out: Path, inputs: Iterable[Path]) -> None:
    """Raise InputError if `out` is one of the folders that are read, or lies in one: it would change what is read."""
    for folder in inputs:
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):  # `resolve` raises for a loop
            raise InputError(f"{out}: lies in {folder}, which is read; give --out a folder elsewhere")


def check_new(folder: Path) -> None:
    """Raise InputError unless a command may make `folder`: it must not exist yet, or be empty and not where we are."""
    if folder.is_dir() and not any(folder.iterdir()) and folder.resolve() != Path.cwd():
        return
    if folder.exists():
        raise InputError(f"{folder}: exists already, and would be replaced; give --out a folder that does not exist")


def check_file(target: Path, inputs: Iterable[str] = ()) -> None:
    """Raise InputError now if the file `target` cannot be written, or if it is one of the `inputs` of what is made."""
    check_writable(target.parent)
    if target.is_dir():
        raise InputError(f"{target}: is a folder; give --out a file")
    if target.exists() and any(Path(name).exists() and target.samefile(name) for name in inputs if name):
        raise InputError(f"{target}: is one of the files that it is made from; give another --out")


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that takes its place, whole, at the end.

    On any error the temporary folder is removed and `target` is left as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        old = target.with_name(f".old-{target.name}-{os.getpid()}")
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.filename is not None and temporary.name not in str(error.filename):
            raise  # about something else that the work inside touched
        raise RunError(f"{target}: could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write a text file through a temporary name. Raises RunError (a full disk, say) leaving no trace."""
    write_bytes(target, text.encode())


def write_bytes(target: Path, data: bytes) -> None:
    """Write a file through a temporary name. Raises RunError (a full disk, say) leaving no trace."""
    temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunError(f"{target}: could not be written: {error.strerror or error}") from error


def write_json(target: Path, data: object) -> None:
    """Write what has a JSON form, indented, through a temporary name. Raises TypeError for what has none."""
    write_text(target, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(target: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one JSON object a line through a temporary name."""
    write_text(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path, empty: bool = False) -> Iterator[tuple[str, JsonObject]]:
    r"""Yield `("file:line", object)` of a JSONL file, which may be packed: gzip, bzip2, xz or lzma.

    Lines end at `\n` only: U+2028, U+2029, U+0085 and the like may stand in a text. Blank lines and a byte order mark
    are skipped. The file is read as it is asked for, so that its head can be had alone. Raises InputError naming file
    and line for what is not UTF-8, no JSON object, or no Unicode text, and for a file without rows unless `empty`.
    """
    rows = 0
    for number, line in enumerate(packed_lines(path), start=1):
        where = f"{path}:{number}"
        text = decoded(line, where)
        if not text.strip(" \t\r\n"):
            continue
        rows += 1
        yield where, _object(parse_json(text, where), where)
    if not rows and not empty:
        raise InputError(f"{path}: the file is empty; expected one JSON object a line")


def begins_with(path: Path, mark: str) -> bool:
    """Whether the text of a file begins so, white space and a byte order mark left aside. Raises InputError."""
    return first_line(path).startswith(mark)


def first_line(path: Path) -> str:
    """The first line that is not blank, white space and a byte order mark left aside; what is no text is left out.

    Raises InputError for a file that cannot be read.
    """
    for line in packed_lines(path):
        if text := line.removeprefix(_MARK.encode()).strip():
            return text.decode("utf-8", errors="ignore")
    return ""


def read_json(path: Path) -> JsonObject:
    """The JSON object that a file holds. Raises InputError naming the file for anything else."""
    return _object(parse_json(read_text(path), str(path)), str(path))


def read_text(path: Path) -> str:
    """A whole text file, unpacked where it is packed, without a byte order mark. Raises InputError."""
    return decoded(b"".join(packed_lines(path)), str(path))


def parse_json(text: str, where: str) -> Json:
    """Parse JSON. Raises InputError, with `where`, for what is no JSON, gives a key twice or is no Unicode text."""
    try:
        data: Json = json.loads(text, object_pairs_hook=_once)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON: {error}. Found: {text[:60]!r}") from None
    except RecursionError:
        raise InputError(f"{where}: JSON nested too deeply") from None
    if _ESCAPED_SURROGATE.search(text):
        check_unicode(data, where)
    return data


def check_unicode(data: Json, where: str) -> None:
    """Raise InputError if a text anywhere in `data` holds half of a surrogate pair, which no tokenizer reads."""
    if isinstance(data, str):
        found = _SURROGATE.search(data)
        if found:
            near = data[max(0, found.start() - 20) : found.end() + 20].encode("ascii", "backslashreplace").decode()
            raise InputError(
                f"{where}: the text holds half of a surrogate pair, \\u{ord(found[0]):04x} (an emoji that was cut in "
                f"two?), which is no character; mend it or leave the row out. Found: '{near}'"
            )
    elif isinstance(data, dict):
        for key, value in data.items():
            check_unicode(key, where)
            check_unicode(value, where)
    elif isinstance(data, list | tuple):
        for value in data:
            check_unicode(value, where)


def decoded(data: bytes, where: str) -> str:
    """The text of a file's bytes or of a line's, without a byte order mark. Raises InputError if it is not UTF-8."""
    if data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        raise InputError(f"{where}: the file is UTF-32; save it as UTF-8")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{where}: the file is UTF-16; save it as UTF-8")
    for pattern, name in _WIDE:
        if re.match(pattern, data):
            raise InputError(f"{where}: the file seems to be {name} without a byte order mark; save it as UTF-8")
    try:
        text = data.decode("utf-8").removeprefix(_MARK)
    except UnicodeDecodeError as error:
        at = "of the line" if re.search(r":\d+$", where) else "of the file"
        raise InputError(f"{where}: byte {error.start + 1} {at} is not UTF-8; save the file as UTF-8") from None
    if text.startswith(_MARK):
        raise InputError(f"{where}: begins with two byte order marks; save the file as UTF-8 with one or none")
    return text


def _once(pairs: list[tuple[str, Json]]) -> JsonObject:
    """An object of its pairs; JSON lets a key stand twice, of which one would be dropped."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"key {twice!r} is given twice in one object")
    return made


def _object(data: Json, where: str) -> JsonObject:
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(data).__name__}")
    return data
