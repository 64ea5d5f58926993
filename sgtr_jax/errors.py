"""The ways a command can end badly, and the exit codes that go with them."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from sgtr_jax.near import meant, remark

_SHOWN = 20  # names that a message lists


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
    if (found := meant(name, names)) is not None:
        return f"did you mean {found!r}{remark(name, found)}?"
    if not names:
        return "there are none here"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"known are {', '.join(names[:_SHOWN])}{more}"


# The system has no room or the device is broken; anything else is about a path that was given.
_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


def said_by_system(error: OSError) -> InputError | RunError:
    """An error of the operating system as one of ours: a wrong path, or work that could not go on."""
    paths = " -> ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    text = f"{paths}: {error.strerror or error}" if paths else str(error.strerror or error)
    return RunError(text) if error.errno in _FAILURES or error.errno is None else InputError(text)
