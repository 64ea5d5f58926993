"""Flash attention on GPU, by the kernels of `tokamax`, under the signature of `attention.attend`.

Mosaic kernels where the GPU has them (Hopper and newer), Triton kernels elsewhere; both have grouped heads, windows
and a backward pass, and hold no scores. `chunked` is the same call without kernels, for tests on CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from sgtr_jax.errors import InputError
from sgtr_jax.models.kernel_shards import on_own_shards

if TYPE_CHECKING:
    from sgtr_jax.models.attention import AttentionKind, Visibility

FLASH_LENGTH = 64  # the kernels work on rows of a multiple of so many tokens


def flash_attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B K T H"],
    v: Float[Array, "B K T H"],
    visibility: Visibility,
    *,
    scale: float,
    window: int | None,
    chunked: bool,
) -> Float[Array, "B T N H"]:
    """As `attend`, for tokens that are both queries and keys. T must be a multiple of 64.

    A segment's positions rise by one along the row, so a window of positions is one of columns. Raises InputError
    where tokamax is not installed, and NotImplementedError for a GPU that it has no kernel for.
    """
    return on_own_shards(_jitted(scale, window, chunked), q, k, v, visibility.query_segments)


@cache
def _jitted(scale: float, window: int | None, chunked: bool) -> Callable[..., jax.Array]:
    """One function for all layers that ask alike: their kernels are then traced and lowered once, not once a layer."""
    return jax.jit(partial(_on_one_device, scale=scale, window=window, chunked=chunked))


def _on_one_device(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B K T H"],
    v: Float[Array, "B K T H"],
    segments: Int32[Array, "B T"],
    *,
    scale: float,
    window: int | None,
    chunked: bool,
) -> Float[Array, "B T N H"]:
    mixed: jax.Array = _tokamax().dot_product_attention(
        q,
        k.swapaxes(1, 2),
        v.swapaxes(1, 2),
        mask=segments[:, None, :, None] == segments[:, None, None, :],
        scale=scale,
        is_causal=True,
        local_window_size=None if window is None else (window - 1, 0),
        implementation="xla_chunked" if chunked else ("mosaic", "triton"),
    )
    return mixed.astype(q.dtype)


@cache
def _tokamax() -> Any:
    try:
        import tokamax
        from absl import flags
    except ImportError as error:
        raise InputError(
            f"attention: flash needs tokamax ({error}); pip install 'sgtr-jax[cuda12]' or 'sgtr-jax[cuda13]', "
            "or attention=xla"
        ) from None
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # else it would read this program's command line for flags of its own
    # It warns of every shape that nobody has searched the best block sizes for.
    logging.getLogger("absl").addFilter(lambda record: "Autotuning cache miss" not in record.getMessage())
    return tokamax


@cache
def flash_problem() -> str | None:
    """Why flash attention cannot be used on this process's devices; None where it gives what the reference gives.

    Values and gradients of two packed rows of 512 tokens in bfloat16, with grouped heads, as runs of a training batch.
    """
    from sgtr_jax.models.attention import Visibility, attend

    def mixed(kind: AttentionKind, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        own = jnp.arange(512)[None]
        positions, segments = own % 256, own // 256 + 1
        weights = jnp.cos(jnp.arange(128.0))
        found = attend(q, k, v, Visibility(positions, segments, positions, segments), in_order=True, kind=kind)
        return jnp.sum(found.astype(jnp.float32) * weights, axis=-1)

    def of(kind: AttentionKind) -> list[jax.Array]:
        keys = jax.random.split(jax.random.key(0), 3)
        shapes = ((2, 1, 512, 4, 128), (2, 1, 2, 512, 128), (2, 1, 2, 512, 128))
        arrays = [jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True)]
        run = jax.value_and_grad(lambda *x: jnp.sum(mixed(kind, *x)), argnums=(0, 1, 2))
        value, gradients = jax.jit(jax.vmap(run))(*arrays)
        return [value, *gradients]

    try:
        found = of("flash")
    except Exception as error:  # noqa: BLE001 - a kernel that does not compile or run is the finding
        causes = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
        return "; ".join(f"{type(one).__name__}: {str(one).strip()[:160].splitlines()[0]}" for one in causes)
    for one, other in zip(found, of("xla"), strict=True):
        wide = other.astype(jnp.float32)
        far = float(jnp.max(jnp.abs(one.astype(jnp.float32) - wide)) / jnp.max(jnp.abs(wide)))
        if not far < 0.03:
            return f"its result differs from the reference's by {far:.2g} of the largest value"
    return None
