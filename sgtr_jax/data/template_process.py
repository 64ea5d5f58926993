"""Chat templates are rendered by a process of their own, which is ended where it takes too much.

One process serves all templates, and is started with the first conversation. What it may take and what it may not is
told with every conversation: processor time, and characters. Its memory is bounded from its start.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from sgtr_jax.data.records import Message
from sgtr_jax.json_types import Json

BYTES = 1 << 29  # that rendering may take
_PROGRAM = Path(__file__).with_name("template_program.py")


class TemplateFails(Exception):
    """A template raised an error, or was stopped; the text says which, as the end of a sentence."""


class TakesTooMuch(TemplateFails):
    """A template was stopped: by time, by memory, or by the length of its text."""


class TooManyCharacters(TakesTooMuch):
    """A text is longer than it may be; `characters` says how long."""

    def __init__(self, characters: int) -> None:
        super().__init__(f"it makes {characters:,} characters")
        self.characters = characters


def render(
    template: str,
    variables: Mapping[str, Json],
    messages: Sequence[Message],
    generation: bool,
    seconds: float,
    most: int,
) -> str:
    """A conversation's text. `variables` is what the template is given besides; `generation` opens the next turn.

    Raises TakesTooMuch after `seconds` of processor time, `BYTES` or `most` characters, and TemplateFails with what the
    template raised.
    """
    asked = {"template": template, "variables": variables, "messages": list(messages), "generation": generation}
    answer = _process.ask({**asked, "seconds": seconds, "most": most})
    if answer is None:
        raise TakesTooMuch(f"it does not end within {seconds:g} seconds")
    if "characters" in answer:
        raise TooManyCharacters(int(answer["characters"]))
    if answer.get("error") == "memory":
        raise TakesTooMuch(f"it takes more than {BYTES:,} bytes")
    if "text" not in answer:
        raise TemplateFails(str(answer["error"]))
    return str(answer["text"])


class _Process:
    """The process, shared by all threads. A fork has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, asked: Mapping[str, object]) -> dict[str, str | int] | None:
        """What it answers; None where it was ended by its time. Raises TakesTooMuch where it ended otherwise."""
        with self._lock:
            process, to, of = self._started()
            try:
                to.write(json.dumps(asked, default=str).encode() + b"\n")
                to.flush()
                line = of.readline()
            except BrokenPipeError:
                line = b""
            except BaseException:  # an answer that nobody takes would be the next one's
                self._end(process)
                raise
            if line.endswith(b"\n"):
                found: dict[str, str | int] = json.loads(line)
                return found
            code = self._end(process)
            if code == -signal.SIGPROF:
                return None
            raise TakesTooMuch(f"it ends the process that renders it, with code {code}")

    def _started(self) -> tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]:
        running = self._running if self._owner == os.getpid() else None
        if running is None or running.poll() is not None:
            # Not from this folder, whose file names are not meant to be found as modules.
            running = subprocess.Popen(
                [sys.executable, "-P", str(_PROGRAM), str(BYTES)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self._running, self._owner = running, os.getpid()
        assert running.stdin is not None and running.stdout is not None
        return running, running.stdin, running.stdout

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        """End the process, if it did not end by itself; returns its code."""
        self._running = None
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        try:
            return process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


_process = _Process()
