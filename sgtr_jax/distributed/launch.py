"""What every command that uses JAX does first."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import NoReturn

from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import user_cache

_HEARTBEAT_SECONDS = 20
_FAREWELL_SECONDS = 10.0


def start_jax() -> None:
    """Join the other processes of the job, if any, switch on the persistent compilation cache, and use all of a GPU.

    A process is one of several where `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` say so, or
    where `SGTR_DISTRIBUTED=auto` asks JAX to find out by itself (TPU pods, Slurm). All must have started within
    `SGTR_START_SECONDS` (300). With the cache a second start of the same program compiles nothing;
    `JAX_COMPILATION_CACHE_DIR` chooses another place for it, a bucket for instance.

    Raises InputError for settings that cannot be and RunError when the others do not come.
    """
    import jax

    from sgtr_jax.distributed.memory import reserve_gpu_memory

    reserve_gpu_memory()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(user_cache() / "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    # Donated buffers that a backend cannot reuse are no news to a user.
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        number, count = (_whole_number(f"JAX_{name}") for name in ("PROCESS_ID", "NUM_PROCESSES"))
        if number >= count:
            raise InputError(f"environment: JAX_PROCESS_ID is {number}; of {count} processes the last is {count - 1}")
        _initialize(os.environ["JAX_COORDINATOR_ADDRESS"], count, number)
    elif os.environ.get("SGTR_DISTRIBUTED") == "auto":
        _initialize(None, None, None)


@contextlib.contextmanager
def exit_if_peers_hang() -> Iterator[None]:
    """What a process of a job does as one of several: if it fails alone, it ends, and with it the others.

    On its way out a process waits for all others, and they may wait for it inside of a computation. Where all fail
    alike they meet within moments; one that fails alone waits for a while and leaves.
    """
    try:
        yield
    except BaseException as error:
        # What is not known may come of another process's death, of which the runtime speaks after its own patience.
        code, patience = 1, _HEARTBEAT_SECONDS + _FAREWELL_SECONDS
        if isinstance(error, InputError | RunError):
            code, patience = error.exit_code, _FAREWELL_SECONDS
        if "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized():
            timer = threading.Timer(patience, exit_now, [code])
            timer.daemon = True
            timer.start()
        raise


def exit_now(code: int) -> NoReturn:
    """End this process at once, whatever waits in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _initialize(address: str | None, count: int | None, number: int | None) -> None:
    """Become a process of the job. One that dies later ends the others after `_HEARTBEAT_SECONDS` of silence."""
    import jax

    patience = _whole_number("SGTR_START_SECONDS", "300")
    who = "all processes" if count is None else f"all {count} processes"
    message = (
        f"not {who} of this job have come to {address or 'the coordinator'} within {patience} s: start the same "
        "command in every one, with the same JAX_NUM_PROCESSES and numbers from 0 (SGTR_START_SECONDS is how long "
        "to wait)"
    )

    def exit_after_timeout() -> None:
        print(f"sgtr: failed: {message}", file=sys.stderr, flush=True)
        os._exit(1)

    # The runtime's own time-out aborts without a word that a user would understand: ours comes first.
    timer = threading.Timer(patience, exit_after_timeout)
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            address, count, number, initialization_timeout=patience + 60, heartbeat_timeout_seconds=_HEARTBEAT_SECONDS
        )
    except jax.errors.JaxRuntimeError as error:
        raise RunError(f"{message}. JAX says: {str(error).splitlines()[0]}") from None
    finally:
        timer.cancel()


def _whole_number(name: str, default: str = "") -> int:
    value = os.environ.get(name, default)
    if not value.isdigit():
        raise InputError(f"environment: {name} is {value!r}; in a job of several processes it must be a whole number")
    return int(value)
