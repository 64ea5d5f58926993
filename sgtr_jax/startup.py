"""What every command that uses JAX does first."""

from __future__ import annotations

import os
import warnings
from pathlib import Path


def start_jax() -> None:
    """Switch on the persistent compilation cache: a second start of the same program compiles nothing.

    `JAX_COMPILATION_CACHE_DIR` chooses another place.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(root / "sgtr-jax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    # Donated buffers that a backend cannot reuse are no news to a user.
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
