"""What the processes of one job say to each other. In a job of one process all of this costs nothing.

JAX is imported in the functions: what only looks at a run does without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar, cast

import numpy as np

from sgtr_jax.distributed.launch import exit_now
from sgtr_jax.errors import InputError, RunError

T = TypeVar("T")
Tree = TypeVar("Tree")  # any tree of arrays
_PATIENCE = 40.0  # seconds in which what failed in one process must have come to an end in the others
_DAYS = 7 * 24 * 3600.0  # for which one process may have to wait for another's work


def to_host_everywhere(tree: Tree) -> Tree:
    """Global arrays as host arrays that every process holds whole. Every process must call it."""
    from jax.experimental import multihost_utils

    if _processes() == 1:
        return tree
    return cast(Tree, multihost_utils.process_allgather(tree, tiled=True))


def is_first_process() -> bool:
    """Whether this process is the one of its job that writes and speaks."""
    import jax

    return jax.process_index() == 0


def _processes() -> int:
    import jax

    return int(jax.process_count())


def barrier(what: str) -> None:
    """Return when every process of the job is here."""
    from jax.experimental import multihost_utils

    if _processes() > 1:
        multihost_utils.sync_global_devices(what)


def assert_equal_across_processes(what: str, text: str) -> None:
    """Raises InputError in every process if `text` is not the same in all of them. Every process must call it."""
    from jax.experimental import multihost_utils

    if _processes() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint32)
    found = multihost_utils.process_allgather(digest)
    others = [number for number in range(len(found)) if not np.array_equal(found[number], found[0])]
    if others:
        raise InputError(
            f"{what} of process {', '.join(map(str, others))} of the job is not that of process 0: "
            "start the same command with the same files in all of them"
        )


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process of the job. Every process must call it."""
    from jax.experimental import multihost_utils

    if _processes() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


@contextlib.contextmanager
def collective_section(what: str) -> Iterator[None]:
    """A piece of work of all processes, after which no one goes on before the others are there.

    What it raises in one process it raises there, and RunError in the others. Every process must come here; where they
    cannot, being inside of a computation that the one that failed has left, see `barrier_or_exit`.
    """
    try:
        yield
    except Exception as error:
        barrier_or_exit(what, error)
        any_process(True)
        raise
    _barrier(what, _DAYS)
    if any_process(False):
        raise RunError(f"{what}: another process of the job could not do its part, and says why")


def barrier_or_exit(what: str, error: Exception) -> None:
    """In a process that could not do `what`: return when all others are where they can hear of it.

    Where they do not come there soon, being inside of a computation that this one has left, this process ends, with
    the reason, and with it the job.
    """
    try:
        _barrier(what, _PATIENCE)
    except RuntimeError as failed:
        from jax.errors import JaxRuntimeError

        if not isinstance(failed, JaxRuntimeError):
            raise
        why = str(error) if isinstance(error, RunError | InputError) else f"{type(error).__name__}: {error}"
        print(f"sgtr: failed: {why}. The job's other processes are at work and end with this one", file=sys.stderr)
        exit_now(1)


_met: Counter[str] = Counter()


def _barrier(what: str, seconds: float) -> None:
    """Wait for all processes outside of the devices, on which the others may still compute."""
    if _processes() == 1:
        return
    from orbax.checkpoint import multihost

    _met[what] += 1
    multihost.get_barrier_sync_fn()(key=f"{what} {_met[what]}", timeout_ms=int(1000 * seconds))


def all_gather_objects(value: T) -> list[T]:
    """What each process gave, in the order of their numbers; anything that can be pickled. Every process must call it.

    The bytes are another process's of this job, as trusted as its code.
    """
    from jax.experimental import multihost_utils

    if _processes() == 1:
        return [value]
    own = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(own)))
    padded = np.zeros(int(np.max(sizes)), np.uint8)
    padded[: len(own)] = own
    given = np.asarray(multihost_utils.process_allgather(padded))
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(given, sizes, strict=True)]


def broadcast_object(value: T | None) -> T:
    """What the first process gave; anything that can be pickled, and trusted as `all_gather_objects` does.

    Every process must call it, the others with whatever.
    """
    from jax.experimental import multihost_utils

    if _processes() == 1:
        return cast(T, value)
    own = np.frombuffer(pickle.dumps(value), np.uint8) if is_first_process() else np.zeros(0, np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(own))))
    given = multihost_utils.broadcast_one_to_all(own if is_first_process() else np.zeros(size, np.uint8))
    return cast(T, pickle.loads(np.asarray(given, np.uint8).tobytes()))
