"""A chat template is a program of somebody else: what it may take and make is bounded, here and beforehand.

Beforehand a process of its own renders short, long and many messages with a limit of processor time and of memory,
which end loops and texts without end whatever they are written with. That is done once for each template on a machine.
Here every conversation has a bound of time, and one of its text that grows with what is said in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Never

if TYPE_CHECKING:  # run as a program, this file imports nothing of the package
    from sgtr_jax.data.records import Message
    from sgtr_jax.json_types import Json

_SECONDS = 3  # of processor time, of the process that renders beforehand
_BYTES = 1 << 29
_TOO_LONG, _TOO_LARGE = 4, 5  # exit codes
_SECONDS_EACH = 10.0  # of one conversation here, which takes a fraction of a millisecond

# What a text may have: some of its own, some for each message, and so many times what is said. Text that is written as
# JSON takes up to six times its length.
_OWN, _EACH, _TIMES = 100_000, 1_000, 8

_TURNS = (("user", "Hi"), ("assistant", "Hello."), ("user", "Who are you?"), ("assistant", "A model."))
_LONG = "A line of words, 12 numbers and an \u00e9.\n" * 800
_MANY = 400


def most_characters(messages: Sequence[Message], template: str, variables: Mapping[str, Json]) -> int:
    """The most characters that a conversation's text may have: in proportion to what is said, and not to its square."""
    said = sum(len(message["content"]) for message in messages) + sum(len(str(value)) for value in variables.values())
    return _OWN + len(messages) * (_EACH + len(template)) + _TIMES * said


@contextlib.contextmanager
def ends_in_time() -> Iterator[None]:
    """Raise TimeoutError in the block after `_SECONDS_EACH`. The system interrupts the main thread only."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGALRM) is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, _late)
    begun = time.monotonic()
    left, every = signal.setitimer(signal.ITIMER_REAL, _SECONDS_EACH)
    try:
        yield
    finally:
        # A timer of somebody else goes on.
        rest = max(left - (time.monotonic() - begun), 1e-3) if left else 0.0
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, rest, every)


def _late(*_: object) -> Never:
    raise TimeoutError(f"it does not end within {_SECONDS_EACH:g} seconds")


def check_template(template: str, variables: Mapping[str, Json], where: str) -> None:
    """Raise InputError for a template that takes too much time or memory. What it refuses by itself is not judged.

    `variables` are what it is rendered with besides the messages; `where` says whose template it is.
    """
    from sgtr_jax.errors import InputError
    from sgtr_jax.files import user_cache, write_text

    bounds = [_SECONDS, _BYTES, _OWN, _EACH, _TIMES, len(_LONG), _MANY]
    asked = json.dumps({"template": template, "variables": variables, "bounds": bounds}, sort_keys=True, default=str)
    passed = user_cache() / "templates" / hashlib.sha256(asked.encode()).hexdigest()[:32]
    if passed.exists():
        return
    # Not from this folder, whose file names are not meant to be found as modules.
    done = subprocess.run([sys.executable, "-P", __file__], input=asked.encode(), capture_output=True, check=False)
    if done.returncode:
        (of,) = done.stdout.decode().splitlines()[-1:] or ["a conversation"]
        what = {
            _TOO_LONG: f"writes far more for {of} than is said in it",
            _TOO_LARGE: f"takes more than {_BYTES:,} bytes for {of}",
        }
        takes = f"does not end within {_SECONDS} seconds of processor time for {of}"
        raise InputError(
            f"{where}: the chat template {what.get(done.returncode, takes)}, so it is not used; get it again from "
            "where the model is from"
        )
    write_text(passed, "")


def _render_under_limits() -> int:
    import resource

    from transformers.utils.chat_template_utils import render_jinja_template

    given = json.loads(sys.stdin.buffer.read())
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + _SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    _limit_memory(resource)
    template, variables = given["template"], given["variables"]
    for name, messages in _conversations():
        print(name, flush=True)
        try:
            text, _ = render_jinja_template(
                [messages], chat_template=template, add_generation_prompt=messages[-1]["role"] == "user", **variables
            )
        except MemoryError:
            return _TOO_LARGE
        except Exception as error:  # noqa: BLE001 - a template may raise anything, and is asked again later
            print(repr(error), file=sys.stderr)
            continue
        if len(text[0]) > most_characters(messages, template, variables):
            return _TOO_LONG
    return 0


def _conversations() -> Iterator[tuple[str, list[Message]]]:
    short: list[Message] = [{"role": role, "content": text} for role, text in _TURNS]
    for count in (3, 4):
        yield "a conversation of four short messages", short[:count]
    for count in (3, 4):
        long: list[Message] = [{"role": role, "content": _LONG} for role, _ in _TURNS[:count]]
        yield f"a conversation of {count} messages of {len(_LONG):,} characters", long
    yield f"a conversation of {_MANY} short messages", [short[i % 4] for i in range(_MANY)]


def _limit_memory(resource: ModuleType) -> None:
    """Let the process have `_BYTES` more than it has. Systems that cannot tell or cannot limit are left as they are."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123
            pages = int(stream.read().split()[0])
        most = pages * resource.getpagesize() + _BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError):
        return


if __name__ == "__main__":
    sys.exit(_render_under_limits())
