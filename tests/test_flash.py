"""Flash attention on GPU, as far as it can be tested without one; its values are tested in `test_attention.py`."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import backend
from runs import job

from sgtr_jax.data.packed_shapes import choose_shapes
from sgtr_jax.data.packing import Example
from sgtr_jax.errors import InputError
from sgtr_jax.models import attention_choice, flash
from sgtr_jax.models.attention import Scoring, Visibility, attend


class Hopper:
    """What tokamax asks of a device before it picks a kernel."""

    device_kind, compute_capability, core_count, platform = "NVIDIA H200", "9.0", 132, "gpu"


class Ampere(Hopper):
    device_kind, compute_capability, core_count = "NVIDIA A100", "8.0", 108


@pytest.mark.parametrize(
    ("device", "windows", "kernel"),
    [(Hopper(), (None,), "mosaic_gpu"), (Hopper(), (None, 128), "mosaic_gpu"), (Ampere(), (256,), "triton")],
)
def test_values_and_gradients_are_kernels_in_the_program_for_cuda(
    monkeypatch: pytest.MonkeyPatch, device: Hopper, windows: tuple[int | None, ...], kernel: str
) -> None:
    """Lowered for CUDA from here, as runs of a batch, with 28 heads over 4: no scores `[.., T, T]` in float32."""
    monkeypatch.setattr(backend, "get_default_device", lambda *_: device)
    B, T, N, K, H = 2, 640, 28, 4, 128

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, rows: jax.Array) -> jax.Array:
        scoring = Scoring(windows=windows, which=jnp.int32(0))
        return jnp.sum(
            attend(q, k, v, Visibility(*[rows] * 4), scoring, in_order=True, kind="flash").astype(jnp.float32)
        )

    shapes = [jax.ShapeDtypeStruct((3, *size), jnp.bfloat16) for size in ((B, T, N, H), (B, K, T, H), (B, K, T, H))]
    run = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1, 2))))
    lowered = run.trace(*shapes, jax.ShapeDtypeStruct((3, B, T), jnp.int32)).lower(lowering_platforms=("cuda",))
    text = lowered.as_text()
    calls = re.findall(r"custom_call @(\S+?)\(", text)
    assert len(calls) >= 2 * len(windows) and all(kernel in call for call in calls)
    assert not re.findall(rf"tensor<[0-9x]*{T}x{T}xf32>", text)


def test_which_rows_and_dtypes_reach_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, Any]] = []

    def kernel(q: jax.Array, *_: Any, **__: Any) -> jax.Array:
        asked.append((q.shape[1], q.dtype))
        return q

    monkeypatch.setattr(flash, "flash_attend", kernel)
    for T, dtype in (
        (192, jnp.bfloat16),
        (256, jnp.bfloat16),
        (320, jnp.bfloat16),
        (330, jnp.bfloat16),
        (320, jnp.float32),
    ):
        q = jax.ShapeDtypeStruct((1, T, 2, 8), dtype)
        k = jax.ShapeDtypeStruct((1, 2, T, 8), dtype)
        rows = jax.ShapeDtypeStruct((1, T), jnp.int32)
        jax.eval_shape(lambda q, k, r: attend(q, k, k, Visibility(*[r] * 4), in_order=True, kind="flash"), q, k, rows)
    assert asked == [(320, jnp.bfloat16)]


def test_a_gpu_gets_flash_only_where_it_gives_what_the_reference_gives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Here there is no GPU, which tokamax says; the same answer would come of a kernel that does not compile.
    problem = flash.flash_problem()
    assert problem is not None and "NotImplementedError: Not supported" in problem
    attention_choice._say.cache_clear()
    assert attention_choice.attention_for("gpu") == attention_choice.attention_for("gpu") == "xla"
    assert capsys.readouterr().err.count("flash attention cannot be used here") == 1
    monkeypatch.setattr(attention_choice, "flash_problem", lambda: None)
    assert [attention_choice.attention_for(name) for name in ("gpu", "tpu", "cpu")] == ["flash", "splash", "xla"]


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    flash_attend = flash.flash_attend

    def kernel(factor: float, *arrays: Any, scale: float, window: Any, chunked: bool) -> jax.Array:
        return flash_attend(*arrays, scale=scale * factor, window=window, chunked=True)

    monkeypatch.setattr(flash, "flash_attend", partial(kernel, 1.0))
    assert flash.flash_problem.__wrapped__() is None
    monkeypatch.setattr(flash, "flash_attend", partial(kernel, 1.2))
    assert "differs from the reference" in flash.flash_problem.__wrapped__()


def test_without_tokamax_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokamax", None)
    with pytest.raises(InputError, match=r"attention: flash needs tokamax.*cuda12"):
        flash._tokamax.__wrapped__()


def test_packing_weighs_lengths_by_the_backends_attention() -> None:
    """Where attention is cheap, long rows with little padding win; where it is dear, short rows."""
    rng = np.random.default_rng(0)

    def example(length: int) -> Example:
        return Example("", np.zeros(length, np.int32), np.zeros(length, bool))

    steps = [[[example(int(n)) for n in rng.integers(600, 1400, 16)]] for _ in range(4)]
    longest = [max(shape.length for shape in choose_shapes(steps, 1, cost).all) for cost in (500.0, 24_000.0)]
    assert longest[0] < longest[1]
    placed = [min(s.rows * s.length for s in choose_shapes(steps, 1, cost).all) for cost in (500.0, 24_000.0)]
    assert placed[1] <= placed[0]


def test_flash_is_a_setting_of_training(tmp_path: Any) -> None:
    assert job(tmp_path / "m", tmp_path / "a", "attention=flash").config.attention == "flash"
