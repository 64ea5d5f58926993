"""Leases in a bucket: of several machines, the one that holds a key's lease makes what the key stands for.

A lease is a file that is created only where there is none, which buckets and file systems do for one of several. Its
holder rewrites a second file, the beat, again and again. Whoever waits for a lease watches the beat by a clock of its
own: where it does not change for `LEASE_SECONDS`, the holder has died. The lease of the next number takes it over.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time

from sgtr_jax.buckets import translate_storage_errors
from sgtr_jax.errors import InputError, RunError

LEASE_SECONDS = 300.0  # without a beat, after which a lease counts as given up
_BEATS = 10  # in that time
_FAILED, _DONE, _BEAT = "failed", "done", "beat"


class Leases:
    """Leases under `address/leases`: `KEY.N` of the N-th holder, its `KEY.N.beat`, and `KEY.N.failed` or `.done`."""

    def __init__(self, address: str, holder: str) -> None:
        """`holder` says who holds a lease, for people. Raises InputError for an address whose kind is not known."""
        import fsspec

        self._address = address.rstrip("/")
        try:
            self._files, self._root = fsspec.core.url_to_fs(f"{self._address}/leases")
        except (ImportError, ValueError) as error:
            raise InputError(f"mirror {address!r}: {error} (gs:// needs: pip install 'sgtr-jax[gcs]')") from None
        self._holder = f"{holder}, process {os.getpid()} on {socket.gethostname()}"
        self._held: dict[str, int] = {}
        self._watched: dict[str, tuple[str, float]] = {}  # a lease: its beat, and since when it is this one
        self._names: set[str] = set()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self.look()
        # What failed before this machine began may be tried again; what fails from now on is not.
        self._failed_before = {name for name in self._names if name.endswith(f".{_FAILED}")}
        self._thread.start()

    def look(self) -> None:
        """Take note of the leases there are. Raises RunError."""
        self._files.invalidate_cache()
        with translate_storage_errors(self._address):
            try:
                found = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                found = []
        self._names = {path.rpartition("/")[2] for path in found}

    def take(self, key: str) -> bool:
        """Take the lease of a key, if nobody holds it. True as well if it is held here. Raises RunError."""
        if key in self._held:
            return True
        last = self._last(key)
        if last is not None and not self._is_free(f"{key}.{last}"):
            return False
        number = 0 if last is None else last + 1
        path = f"{self._root}/{key}.{number}"
        with translate_storage_errors(self._address):
            self._files.makedirs(self._root, exist_ok=True)
            try:
                with self._files.open(path, "xb") as stream:
                    stream.write(json.dumps({"holder": self._holder}).encode())
            except FileExistsError:
                return False
        with self._lock:
            self._held[key] = number
        return True

    def free(self, key: str) -> None:
        """Give up the lease of a key: what it stands for is there, or somebody else may make it. Raises RunError."""
        with self._lock:
            number = self._held.pop(key)
        with translate_storage_errors(self._address):
            for name in [f"{key}.{number}.{_BEAT}", f"{key}.{number}"]:
                if self._files.exists(f"{self._root}/{name}"):
                    self._files.rm_file(f"{self._root}/{name}")

    def end(self, key: str, done: str | None = None, failed: str | None = None) -> None:
        """Say how the work on a key ended, for good or until the next start. Raises RunError."""
        with self._lock:
            number = self._held.pop(key)
        what, text = (_DONE, done) if done is not None else (_FAILED, failed or "")
        with translate_storage_errors(self._address):
            self._files.pipe_file(f"{self._root}/{key}.{number}.{what}", text.encode())
        self._names |= {f"{key}.{number}", f"{key}.{number}.{what}"}

    def failure(self, key: str) -> str | None:
        """Why the work on a key failed since this machine began; None if it did not."""
        name = f"{key}.{self._last(key)}.{_FAILED}"
        return self._read(name) if name in self._names - self._failed_before else None

    def done(self, key: str) -> str | None:
        """What was said when the work on a key was done; None if it is not."""
        name = f"{key}.{self._last(key)}.{_DONE}"
        return self._read(name) if name in self._names else None

    def close(self) -> None:
        """Give up all leases that are held. Raises RunError."""
        self._ended.set()
        self._thread.join()
        for key in list(self._held):
            self.free(key)

    def _last(self, key: str) -> int | None:
        numbers = [name[len(key) + 1 :].split(".")[0] for name in self._names if name.startswith(f"{key}.")]
        return max(map(int, numbers), default=None)

    def _is_free(self, lease: str) -> bool:
        """Whether a lease can be taken over: its work failed before, or its holder has shown no sign of life."""
        if f"{lease}.{_DONE}" in self._names:
            return False
        if (failed := f"{lease}.{_FAILED}") in self._names:
            return failed in self._failed_before
        beat, now = self._read(f"{lease}.{_BEAT}"), time.monotonic()
        before, since = self._watched.setdefault(lease, (beat, now))
        if beat != before:
            self._watched[lease] = beat, now
            return False
        if now - since <= LEASE_SECONDS:
            return False
        print(f"{lease}: {self._holder_of(lease)} has shown no sign of life for {now - since:.0f} s", file=sys.stderr)
        return True

    def _holder_of(self, lease: str) -> str:
        try:
            return str(json.loads(self._read(lease) or "{}").get("holder", "its holder"))
        except ValueError:  # it was killed while it wrote its name
            return "its holder"

    def _read(self, name: str) -> str:
        """A file of the leases; empty if it is not there, or not yet."""
        with translate_storage_errors(self._address):
            try:
                content: bytes = self._files.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return ""
        return content.decode(errors="replace")

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(LEASE_SECONDS / _BEATS):
            count += 1
            with self._lock:
                held = dict(self._held)
            self._beat_once(held, count)

    def _beat_once(self, held: dict[str, int], count: int) -> None:
        for key, number in held.items():
            try:
                with translate_storage_errors(self._address):
                    self._files.pipe_file(f"{self._root}/{key}.{number}.{_BEAT}", f"{self._holder} {count}".encode())
            except RunError as error:  # the next beat may reach it; if none does, another machine takes over
                print(f"the lease of {key} could not be renewed: {error}", file=sys.stderr)
