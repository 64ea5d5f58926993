"""How much of the code says what its values are, and that the shapes which it says are checked in the tests."""

from __future__ import annotations

import re
from pathlib import Path

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from sgtr_jax.lora.product import low_rank_product, matmul
from sgtr_jax.models.attention import Visibility, attend
from sgtr_jax.models.rope import rotate

ROOT = Path(__file__).parent.parent
MOST = 5.0  # times that `Any` may stand in 1,000 lines


def test_any_is_rare() -> None:
    files = [path for folder in ("sgtr_jax", "eval/sgtr_eval") for path in (ROOT / folder).rglob("*.py")]
    texts = {path.relative_to(ROOT): path.read_text() for path in files}
    found = {path: len(re.findall(r"\bAny\b", text)) for path, text in texts.items()}
    per_thousand = 1000 * sum(found.values()) / sum(len(text.splitlines()) for text in texts.values())
    most = sorted(found, key=lambda path: -found[path])[:5]
    assert len(files) > 200
    assert per_thousand <= MOST, f"{per_thousand:.1f}; most in {', '.join(f'{path} ({found[path]})' for path in most)}"


def test_a_width_that_is_another_one_is_refused() -> None:
    x, a, b, scale = jnp.zeros((2, 3, 8)), jnp.zeros((4, 8)), jnp.zeros((4, 6)), jnp.float32(1.0)
    assert low_rank_product(x, a, b, scale).shape == (2, 3, 6)
    with pytest.raises(TypeCheckError):
        low_rank_product(x, jnp.zeros((5, 8)), b, scale)  # the two ranks differ
    with pytest.raises(TypeCheckError):
        matmul(x, jnp.zeros((7, 6)))


def test_an_axis_that_would_be_broadcast_is_refused() -> None:
    """NumPy's rules would stretch these to results of the right shape and the wrong numbers."""
    x, cos = jnp.zeros((2, 3, 4, 8)), jnp.zeros((2, 3, 1, 4))
    assert rotate(x, cos, cos).shape == x.shape
    with pytest.raises(TypeCheckError):
        rotate(x, cos[:, :1], cos[:, :1])
    places, keys = jnp.zeros((2, 3), jnp.int32), jnp.zeros((2, 4, 3, 8))
    visibility = Visibility(places, places, places, places)
    assert attend(x, keys, keys, visibility).shape == x.shape
    with pytest.raises(TypeCheckError):
        attend(x, keys, keys[:, :, :, :1], visibility)
