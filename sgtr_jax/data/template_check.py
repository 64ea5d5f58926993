"""A chat template is a program of somebody else: it is run once under limits before it is run here.

A process of its own renders two short conversations with a limit of processor time and of memory, which end loops and
texts without end whatever they are written with. That is done once for each template on a machine.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

_SECONDS = 3  # of processor time
_BYTES = 1 << 29
_CHARACTERS = 1_000_000  # of a conversation of four short messages
_TOO_LONG, _TOO_LARGE = 4, 5  # exit codes

_TURNS = (("user", "Hi"), ("assistant", "Hello."), ("user", "Who are you?"), ("assistant", "A model."))
_MESSAGES = [{"role": role, "content": text} for role, text in _TURNS]


def check_template(template: str, variables: Mapping[str, Any], where: str) -> None:
    """Raise InputError for a template that takes too much time or memory. What it refuses by itself is not judged.

    `variables` are what it is rendered with besides the messages; `where` says whose template it is.
    """
    from sgtr_jax.errors import InputError
    from sgtr_jax.files import user_cache, write_text

    asked = json.dumps({"template": template, "variables": variables}, sort_keys=True, default=str)
    passed = user_cache() / "templates" / hashlib.sha256(asked.encode()).hexdigest()[:32]
    if passed.exists():
        return
    # Not from this folder, whose file names are not meant to be found as modules.
    done = subprocess.run([sys.executable, "-P", __file__], input=asked.encode(), capture_output=True, check=False)
    if done.returncode:
        what = {
            _TOO_LONG: f"makes more than {_CHARACTERS:,} characters",
            _TOO_LARGE: f"takes more than {_BYTES:,} bytes",
        }
        takes = f"does not end within {_SECONDS} seconds of processor time"
        raise InputError(
            f"{where}: the chat template {what.get(done.returncode, takes)} for a conversation of four short messages, "
            "so it is not used; get it again from where the model is from"
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
    for count in (3, 4):
        try:
            text, _ = render_jinja_template(
                [_MESSAGES[:count]], chat_template=given["template"], add_generation_prompt=count == 3,
                **given["variables"],
            )  # fmt: skip
        except MemoryError:
            return _TOO_LARGE
        except Exception as error:  # noqa: BLE001 - a template may raise anything, and is asked again later
            print(repr(error), file=sys.stderr)
            continue
        if len(text[0]) > _CHARACTERS:
            return _TOO_LONG
    return 0


def _limit_memory(resource: Any) -> None:
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
