"""The product of a LoRA adapter, with a gradient whose matrix products are written out.

Differentiated as it stands, `x @ a.T @ b` makes the gradients of its factors by transposing activations, `[tokens,
width]` copied for a `[rank, width]` result. Here the operand that is transposed is always the thin one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Num

from sgtr_jax.arrays import ArrayOrNumber


def matmul(x: Float[Array, "*rows into"], kernel: Num[Array, "into out"]) -> Float[Array, "*rows out"]:
    """`x @ kernel` in x's dtype; float32 stays float32 (a TPU would use bfloat16 passes by default)."""
    return jnp.matmul(x, kernel.astype(x.dtype), precision=_precision(x))


@jax.custom_vjp
def low_rank_product(
    x: Float[Array, "*rows into"],
    a: Float[Array, "r into"],
    b: Float[Array, "r out"],
    scale: Float32[ArrayOrNumber, ""],
) -> Float[Array, "*rows out"]:
    """`scale * (x @ a.T) @ b` in x's dtype.

    The gradients of `a` and `b` are summed over tokens in float32. That of `scale`, which is no parameter, is 0.
    """
    return matmul(_low(x, a, scale), b)


def grouped_low_rank_product(
    x: Float[Array, "B T into"],
    a: Float[Array, "C r into"],
    b: Float[Array, "C r out"],
    scale: Float32[Array, " C"],
) -> Float[Array, "B T out"]:
    """The product for rows of C adapters.

    Row b uses adapter b % C, so that every device's share of the rows holds every adapter's. Rows are grouped, not
    given copies of their factors: at 32 rows a chain those copies would outweigh the base.
    """
    B, T, _ = x.shape
    C = a.shape[0]
    rows = x.reshape(B // C, C, T, -1)
    low = jnp.einsum("bgti,gri->bgtr", rows, a.astype(x.dtype), precision=_precision(x))
    low = low * scale.astype(x.dtype)[None, :, None, None]
    return jnp.einsum("bgtr,gro->bgto", low, b.astype(x.dtype), precision=_precision(x)).reshape(B, T, -1)


def _low(
    x: Float[Array, "*rows into"], a: Float[Array, "r into"], scale: Float32[ArrayOrNumber, ""]
) -> Float[Array, "*rows r"]:
    return matmul(x, a.T) * scale.astype(x.dtype)


Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array, ArrayOrNumber]


def _forward(x: jax.Array, a: jax.Array, b: jax.Array, scale: ArrayOrNumber) -> tuple[jax.Array, Saved]:
    low = _low(x, a, scale)
    return matmul(low, b), (x, low, a, b, scale)


def _backward(saved: Saved, g: jax.Array) -> tuple[jax.Array, ...]:
    x, low, a, b, scale = saved
    low_g = matmul(g, b.T) * scale.astype(g.dtype)
    return matmul(low_g, a), _over_tokens(low_g, x), _over_tokens(low, g), jnp.zeros_like(scale)


def _over_tokens(thin: Float[Array, "*rows r"], wide: Float[Array, "*rows width"]) -> Float32[Array, "r width"]:
    """The sum of the rows' outer products."""
    thin, wide = (z.reshape(-1, z.shape[-1]) for z in (thin, wide))
    return jax.lax.dot_general(
        thin, wide, (((0,), (0,)), ((), ())), precision=_precision(thin), preferred_element_type=jnp.float32
    )


def _precision(x: jax.Array) -> jax.lax.Precision:
    return jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else jax.lax.Precision.DEFAULT


low_rank_product.defvjp(_forward, _backward)
