"""Dropout masks: their rate, that nothing about them repeats, and that they belong to tokens."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgtr_jax.models.dropout import Dropout, token_numbers

RATE = 0.1


def masks(seed: int = 0, layer: int = 0, place: int = 0, examples: int = 4, length: int = 256) -> np.ndarray:
    """Which of 512 features of `examples * length` tokens are dropped: bool [tokens, 512]."""
    segments = jnp.repeat(jnp.arange(1, examples + 1, dtype=jnp.int32), length)[None]
    positions = jnp.tile(jnp.arange(length, dtype=jnp.int32), examples)[None]
    one = Dropout(jax.random.key(seed), token_numbers(segments, positions), RATE, RATE, RATE)
    kept = one.at_layer(jnp.int32(layer)).on_features(jnp.ones((1, examples * length, 512)), RATE, place)
    values = np.unique(np.asarray(kept))
    np.testing.assert_allclose(values, [0.0, 1 / (1 - RATE)], rtol=1e-6)
    return np.asarray(kept[0]) == 0


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_the_rate_holds_over_all_over_tokens_and_over_features(seed: int) -> None:
    dropped = masks(seed)
    tokens, features = dropped.shape
    # Six standard errors: a miss in one of a billion of these.
    for share, count in ((dropped.mean(), dropped.size), (dropped.mean(1), features), (dropped.mean(0), tokens)):
        assert np.max(np.abs(share - RATE)) < 6 * (RATE * (1 - RATE) / count) ** 0.5
    # As often several at once as chance has it: the variance of the counts is binomial.
    for axis, count in ((0, tokens), (1, features)):
        variance = dropped.sum(axis).var() / (count * RATE * (1 - RATE))
        assert 0.75 < variance < 1.25


def test_masks_of_neighbours_layers_places_and_runs_do_not_go_together() -> None:
    def agreement(a: np.ndarray, b: np.ndarray) -> float:
        """Correlation, in standard errors."""
        return float(abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) * a.size**0.5)

    one = masks()
    for shift in (1, 2, 16, 256):  # 256: the same position in the next example
        assert agreement(one[shift:], one[:-shift]) < 6
        assert agreement(one[:, shift:], one[:, :-shift]) < 6
    other = [one, masks(seed=1), masks(layer=1), masks(layer=63), masks(place=1), masks(place=99)]
    for a, b in itertools.combinations(other, 2):
        assert agreement(a, b) < 6


def test_attention_drops_by_query_head_and_key() -> None:
    tokens = token_numbers(jnp.ones((1, 128), jnp.int32), jnp.arange(128, dtype=jnp.int32)[None])
    one = Dropout(jax.random.key(3), tokens, 0.0, 0.0, RATE)
    positions = jnp.arange(128, dtype=jnp.int32)[None]
    whole = np.asarray(one.on_attention(jnp.ones((1, 2, 3, 128, 128)), positions, 99))
    assert abs((whole == 0).mean() - RATE) < 6 * (RATE * (1 - RATE) / whole.size) ** 0.5
    heads = (whole[0] == 0).reshape(6, -1)
    assert np.max(np.abs(np.corrcoef(heads) - np.eye(6))) < 6 / heads.shape[1] ** 0.5
    # A block of queries and keys has what it has in the whole.
    part = one.of_tokens(slice(64, 96)).on_attention(jnp.ones((1, 2, 3, 32, 100)), positions[:, :100], 99)
    np.testing.assert_array_equal(np.asarray(part), whole[:, :, :, 64:96, :100])
