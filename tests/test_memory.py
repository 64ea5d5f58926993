"""How much of a device is used, and who says so."""

from __future__ import annotations

import os
from typing import Any

import pytest

from sgtr_jax.distributed import memory

FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"


@pytest.mark.parametrize(("given", "wanted"), [(None, 0.95), ("0.5", 0.5)])
def test_the_share_of_a_card_that_is_reserved(
    monkeypatch: pytest.MonkeyPatch, given: str | None, wanted: float
) -> None:
    monkeypatch.delenv(FRACTION, raising=False)
    if given is not None:
        monkeypatch.setenv(FRACTION, given)
    assert memory.reserve_gpu_memory() == wanted == float(os.environ[FRACTION])


class Device:
    process_index = 0

    def __init__(self, platform: str, limit: float) -> None:
        self.platform, self._limit = platform, limit

    def memory_stats(self) -> dict[str, Any]:
        return {"bytes_limit": self._limit}


def test_a_card_of_80_gb_holds_32b() -> None:
    """65.5 GB of weights in bfloat16, and something to decode with."""
    card = Device("gpu", 0.95 * 79.6 * 2**30)
    assert memory.usable_memory([card]) > 76e9  # type: ignore[list-item, operator]
    assert memory.usable_memory([Device("tpu", 1e10)]) == int(0.9e10)  # type: ignore[list-item]
