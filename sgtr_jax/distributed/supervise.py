"""A process of a job, watched by a parent that can still speak when the runtime has ended it.

When one process of a job dies, JAX's runtime ends the others from within, by SIGABRT and a stack trace of C++: no
Python code of theirs runs any more. The parent turns that into a sentence and exit code 1.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType

_MARK = "SGTR_SUPERVISED"
_PR_SET_PDEATHSIG = 1  # Linux: the signal a child gets when its parent dies


def is_wanted() -> bool:
    """Whether this is a process of a job of several, and nobody watches it yet."""
    several = "JAX_COORDINATOR_ADDRESS" in os.environ or os.environ.get("SGTR_DISTRIBUTED") == "auto"
    return several and _MARK not in os.environ and sys.platform == "linux"


def supervise() -> int:
    """Run this same command as a child and return its exit code; 1 with an explanation where the runtime ended it."""
    command = [sys.executable, "-m", "sgtr_jax.cli", *sys.argv[1:]]
    child = subprocess.Popen(command, env={**os.environ, _MARK: "1"}, preexec_fn=_die_with_parent)

    def forward(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    code = child.wait()
    if code == -signal.SIGABRT:
        print(
            "sgtr: failed: JAX's runtime ended this process, most likely because another process of the job died or "
            "could not be reached (see above, and its own log). What was saved is kept: start the same command again "
            "in all of them",
            file=sys.stderr,
        )
        return 1
    return code if code >= 0 else 128 - code


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
