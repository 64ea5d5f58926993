"""One run folder, one owner: two processes started on the same run must not write over each other."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sgtr_jax.errors import InputError


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for the length of the block. Raises InputError that says who holds it.

    The operating system gives the lock up when its process ends, however it ends; the file says whose it was.
    """
    path = folder / "run.lock"
    with path.open("a+") as stream:
        if not _is_taken(stream, fcntl.LOCK_EX):
            raise InputError(f"{folder}: another process works on this run: {_owner(path)}. Wait for it, or stop it")
        stream.truncate(0)
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        json.dump({"process": os.getpid(), "host": socket.gethostname(), "since": since}, stream)
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def owner(folder: Path) -> str | None:
    """Who works on a run; None if nobody does."""
    path = folder / "run.lock"
    try:
        with path.open() as stream:
            return None if _is_taken(stream, fcntl.LOCK_SH, tries=1) else _owner(path)
    except FileNotFoundError:
        return None


def _is_taken(stream: IO[str], how: int, tries: int = 3) -> bool:
    """Take the lock for as long as the file is open. More than one try: who only asks holds it for a moment."""
    for i in range(tries):
        try:
            fcntl.flock(stream, how | fcntl.LOCK_NB)
            return True
        except OSError:
            if i < tries - 1:
                time.sleep(0.05)
    return False


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return f"process {owner['process']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said who it is yet"
