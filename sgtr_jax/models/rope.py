"""Rotary position embedding (RoFormer, arXiv 2104.09864), in the half-rotation form of Llama and Qwen."""

from __future__ import annotations

import math
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int32

from sgtr_jax.models.spec import LinearScaling, Llama3Scaling, Rope, YarnScaling

Angles: TypeAlias = Float32[Array, "B T 1 half"]  # of each token and pair of channels


def rope_angles(positions: Int32[Array, "B T"], head_dim: int, rope: Rope) -> tuple[Angles, Angles]:
    """Cosines and sines.

    Angles stay in float32 whatever the model's dtype: bfloat16 would round position 257 to 256.
    """
    wide = positions[..., None].astype(jnp.float32)
    if rope.scaling is None:
        exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
        angles = wide / rope.theta**exponents
    else:
        angles = wide * scaled_frequencies(rope, head_dim).astype(np.float32)
    cos, sin = jnp.cos(angles)[:, :, None, :], jnp.sin(angles)[:, :, None, :]
    if isinstance(rope.scaling, YarnScaling):
        return cos * rope.scaling.attention_factor, sin * rope.scaling.attention_factor
    return cos, sin


def scaled_frequencies(rope: Rope, head_dim: int) -> Float64[np.ndarray, " half"]:
    """Radians a position of each pair of channels (`transformers/modeling_rope_utils.py`)."""
    plain = rope.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    match rope.scaling:
        case LinearScaling(factor):
            return plain / factor
        case Llama3Scaling() as scaling:
            # How often a pair turns within the original length: at least `high` is left alone, at most `low` slowed.
            turns = scaling.original_positions * plain / (2 * math.pi)
            low, high = scaling.low_freq_factor, scaling.high_freq_factor
            kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
            return plain * (kept + (1 - kept) / scaling.factor)
        case YarnScaling() as scaling:
            kept = 1 - _ramp(rope.theta, scaling, head_dim)
            return plain * (kept + (1 - kept) / scaling.factor)
        case None:
            return plain


def _ramp(theta: float, scaling: YarnScaling, head_dim: int) -> Float64[np.ndarray, " half"]:
    """From 0, for pairs that turn `beta_fast` times within the original length, to 1 for those that do `beta_slow`."""

    def pair_that_turns(times: float) -> float:
        return head_dim * math.log(scaling.original_positions / (times * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    ramp: Float64[np.ndarray, " half"] = np.clip((np.arange(head_dim // 2) - low) / max(high - low, 0.001), 0.0, 1.0)
    return ramp


def rotate(
    x: Float[Array, "B T heads H"], cos: Float32[Array, "B T 1 half"], sin: Float32[Array, "B T 1 half"]
) -> Float[Array, "B T heads H"]:
    """Rotate `x`: channel i is paired with channel i + H/2. Keeps `x`'s dtype."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
