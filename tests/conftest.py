"""Eight simulated devices for every test, so that sharding is tested on any machine."""

from __future__ import annotations

import os
from pathlib import Path

# Tests compile many tiny programs once each: quick compilation beats quick programs.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax
import pytest
import shape_checks

shape_checks.install()

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "sgtr-jax" / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Folder of data that may be used but not redistributed; tests that need it are skipped without it."""
    if "SGTR_DATA_MIRROR" not in os.environ:
        pytest.skip("SGTR_DATA_MIRROR is not set")
    return Path(os.environ["SGTR_DATA_MIRROR"])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
