"""A base stored as int8: close to what bfloat16 gives, and trained over like any other."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import job, losses
from tiny import make_model

import sgtr_jax
from sgtr_jax import nano
from sgtr_jax.finetune.local import finetune
from sgtr_jax.weights.quantize import quantize_kernel


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-6, 1e3))
def test_rounding_is_within_half_a_step(seed: int, size: float) -> None:
    kernel = size * np.random.default_rng(seed).standard_normal((2, 8, 5)).astype(np.float32)
    kernel[0, :, 3] = 0
    stored = quantize_kernel(jnp.asarray(kernel))
    back = np.asarray(stored["kernel"], np.float32) * np.asarray(stored["kernel_scale"])[:, None, :]
    assert (np.abs(back - kernel) <= 0.5001 * np.asarray(stored["kernel_scale"])[:, None, :]).all()


def test_logits_of_the_trained_demo_model() -> None:
    """Error against float32 on real text, beside that of bfloat16, in units of the logits' own spread."""
    whole = sgtr_jax.load_model("nano")
    text = "Who are you? I am a model made by people who like long walks and good soup."
    tokens = np.asarray([whole.tokenizer.encode(text)])
    wanted = whole.logits(tokens)
    spread = wanted.std()

    def error(**settings: object) -> float:
        found = sgtr_jax.load_model("nano", **settings).logits(tokens)  # type: ignore[arg-type]
        return float(np.sqrt(np.mean((found - wanted) ** 2)) / spread)

    half, eighth = error(dtype="bfloat16"), error(int8=True)
    assert half < 0.02
    # Measured 0.010 for int8 and 0.006 for bfloat16.
    assert eighth < 3 * half


def test_training_over_an_int8_base(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    finetune(job(tmp_path / "m", tmp_path / "a", "epochs=2"))
    finetune(job(tmp_path / "m", tmp_path / "b", "epochs=2", "base_dtype=int8"))
    a, b = losses(tmp_path / "a"), losses(tmp_path / "b")
    assert b[0] != a[0] and b == pytest.approx(a, rel=0.02)


def test_int8_halves_what_the_base_takes() -> None:
    def size(**settings: object) -> int:
        model = sgtr_jax.load_model(nano.FOLDER, dtype="bfloat16", **settings)  # type: ignore[arg-type]
        return sum(leaf.nbytes for leaf in jax.tree.leaves(model.params["layers"]))

    assert size(int8=True) < 0.56 * size()
