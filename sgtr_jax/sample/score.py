"""Log-probabilities of the next token, without a cache: one forward pass over prompts."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from sgtr_jax.models.decoder import Params, bind
from sgtr_jax.models.layers import Chain
from sgtr_jax.models.spec import ModelSpec


@partial(jax.jit, static_argnames=("spec",))
def next_token_logprobs(
    params: Params, chain: Chain, tokens: jax.Array, lengths: jax.Array, *, spec: ModelSpec
) -> jax.Array:
    """Log-probabilities float32 `[B, V]` of the token after each prompt.

    `tokens` int32 `[B, T]`, padded on the right; `lengths` int32 `[B]`. Only the last hidden state of each row
    goes through the vocabulary head.
    """
    decoder = bind(spec, params)
    places = jnp.arange(tokens.shape[1])[None, :]
    real = places < lengths[:, None]
    hidden, _ = decoder(tokens, jnp.where(real, places, 0), real.astype(jnp.int32), chain=chain)
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
    return jax.nn.log_softmax(decoder.logits(last), axis=-1)


@partial(jax.jit, static_argnames=("spec",))
def all_logits(params: Params, chain: Chain, tokens: jax.Array, mask: jax.Array, *, spec: ModelSpec) -> jax.Array:
    """Logits float32 `[B, T, V]` at every place. `mask` bool `[B, T]` marks real tokens, padded on either side.

    Positions count real tokens only, as `transformers` does when `position_ids` follow the attention mask.
    """
    decoder = bind(spec, params)
    positions = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
    hidden, _ = decoder(tokens, positions, mask.astype(jnp.int32), chain=chain)
    return decoder.logits(hidden)
