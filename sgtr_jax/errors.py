"""The ways a command can end badly, and the exit codes that go with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Something the user gave is wrong: a config, a file, a folder, a flag. Exit code 2.

    The message says what was found, where, what was expected and what to do about it. It is raised before
    any expensive work and before anything is written.
    """

    exit_code = 2


class RunError(Exception):
    """Work that began could not finish: a NaN loss, a full disk. Exit code 1."""

    exit_code = 1


class Interrupted(RunError):
    """The machine asked to stop (SIGTERM, a preemption notice) and the state was saved. Exit code 143."""

    exit_code = 143


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or all that is known if nothing is near."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
