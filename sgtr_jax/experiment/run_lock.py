"""One run folder, one owner: two processes started on the same run must not write over each other."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from sgtr_jax.errors import InputError


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for the length of the block. Raises InputError that says who holds it.

    The operating system gives the lock up when its process ends, however it ends; the file says whose it was.
    """
    path = folder / "run.lock"
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{folder}: another process works on this run: {_owner(path)}. Wait for it, or stop it"
            ) from None
        stream.truncate(0)
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        json.dump({"process": os.getpid(), "host": socket.gethostname(), "since": since}, stream)
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return f"process {owner['process']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said who it is yet"
