"""What every command that uses JAX does first."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from sgtr_jax.errors import InputError


def start_jax() -> None:
    """Join the other processes of the job, if any, and switch on the persistent compilation cache.

    A process is one of several where `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` say so, or
    where `SGTR_DISTRIBUTED=auto` asks JAX to find out by itself (TPU pods, Slurm). With the cache a second start of
    the same program compiles nothing; `JAX_COMPILATION_CACHE_DIR` chooses another place for it.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(root / "sgtr-jax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    # Donated buffers that a backend cannot reuse are no news to a user.
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        number, count = (_whole_number(f"JAX_{name}") for name in ("PROCESS_ID", "NUM_PROCESSES"))
        jax.distributed.initialize(os.environ["JAX_COORDINATOR_ADDRESS"], count, number)
    elif os.environ.get("SGTR_DISTRIBUTED") == "auto":
        jax.distributed.initialize()


def _whole_number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdigit():
        raise InputError(f"environment: {name} is {value!r}; with JAX_COORDINATOR_ADDRESS it must be a whole number")
    return int(value)
