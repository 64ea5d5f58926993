"""Writing files and folders so that they are either complete or absent."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgtr_jax.errors import InputError, RunError


def user_cache() -> Path:
    """Where this user keeps what can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sgtr-jax"


def check_writable(folder: Path) -> None:
    """Raise InputError now if `folder` cannot be created or written, not after hours of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: the output folder cannot be written: {error.strerror}") from None


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


def write_json(target: Path, data: Any) -> None:
    """Write indented JSON through a temporary name."""
    write_text(target, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(target: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line through a temporary name."""
    write_text(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
