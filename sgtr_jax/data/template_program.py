"""A process that renders chat templates within bounds of time, memory and text; `template_process.py` asks it.

A template is a program of somebody else. Only a process of its own can be stopped whatever the template does: inside of
a library's loop no signal reaches Python, and one expression may ask for all memory. This file is run by its path, and
imports nothing of the package.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast


def _renderer() -> Callable[..., tuple[list[str], object]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    return cast(Callable[..., tuple[list[str], object]], render_jinja_template)


def _limit_memory(more: int) -> None:
    """Let the process have `more` bytes than it has. Systems that cannot tell or cannot limit are left as they are."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123
            pages = int(stream.read().split()[0])
        most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError):
        return


def _rendered(render: Callable[..., tuple[list[str], object]], asked: Mapping[str, Any]) -> dict[str, str | int]:
    """The text; or how many characters it has, where they are too many; or what failed."""
    messages = [{key: value for key, value in one.items() if value is not None} for one in asked["messages"]]
    if not messages:
        return {"error": "there are no messages"}
    # The signal ends the process, in Python and in C.
    signal.setitimer(signal.ITIMER_PROF, asked["seconds"])
    try:
        (text,), _ = render(
            [messages], chat_template=asked["template"], add_generation_prompt=asked["generation"], **asked["variables"]
        )
        return {"text": text} if len(text) <= asked["most"] else {"characters": len(text)}
    except MemoryError:
        return {"error": "memory"}
    except Exception as error:  # noqa: BLE001 - a template may raise anything
        return {"error": str(error)[:1000] or type(error).__name__}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def main(more: int) -> None:
    """Answer one line of JSON with one, until there are no more. `more`: bytes that may be taken for rendering."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is interrupted, and ends this process
    asks, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    render = _renderer()
    _limit_memory(more)
    for line in asks:
        answers.write(json.dumps(_rendered(render, json.loads(line))).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
