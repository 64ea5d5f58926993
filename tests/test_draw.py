"""One draw: its key, its temperature, and which tokens top-k and top-p leave, against their definitions."""

from __future__ import annotations

import hashlib
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgtr_jax.sample.sampling import _cut, _largest_threshold, _ordered, draw, row_key_data


def left(logits: list[float], top_k: int, top_p: float) -> set[int]:
    """The tokens that may still be drawn."""
    cut = jnp.asarray([top_k], jnp.int32), jnp.asarray([top_p], jnp.float32)
    kept = np.asarray(_cut(jnp.asarray([logits], jnp.float32), *cut))[0]
    return set(np.flatnonzero(np.isfinite(kept)).tolist())


def by_definition(logits: np.ndarray, top_k: int, top_p: float) -> set[int]:
    """The k likeliest tokens; of them the fewest likeliest ones that hold `top_p` of what they have together."""
    order = sorted(range(len(logits)), key=lambda i: -logits[i])
    order = order[: top_k or None]
    weights = [math.exp(logits[i]) for i in order]
    shares = [total / sum(weights) for total in itertools.accumulate(weights)]
    enough = next((n for n, share in enumerate(shares, start=1) if share >= top_p), len(order))
    return set(order if top_p >= 1 else order[:enough])


def test_what_is_left_is_the_definition() -> None:
    """Each row has its own cut, and what is left keeps its logit."""
    rng = np.random.default_rng(0)
    cuts = list(itertools.product((0, 1, 3, 9, 12), (1e-6, 0.3, 0.55, 0.9, 0.999, 1.0))) * 4
    logits = np.stack([rng.permutation(np.linspace(-3, 2, 9)) + rng.uniform(-0.2, 0.2, 9) for _ in cuts])
    top_k, top_p = jnp.asarray([k for k, _ in cuts], jnp.int32), jnp.asarray([p for _, p in cuts], jnp.float32)
    kept = np.asarray(_cut(jnp.asarray(logits, jnp.float32), top_k, top_p))
    for row, found, (k, p) in zip(logits, kept, cuts, strict=True):
        inside = by_definition(row, k, p)
        wanted = [np.float32(row[i]) if i in inside else -np.inf for i in range(9)]
        np.testing.assert_array_equal(found, wanted, err_msg=f"top-k {k}, top-p {p}")


def test_the_nucleus_is_the_smallest_set_that_holds_top_p() -> None:
    logits = [2.0, 1.0, 0.5, 0.0]
    cumulated = np.cumsum(np.asarray(jax.nn.softmax(jnp.asarray(logits, jnp.float32))), dtype=np.float32)
    # Exactly the probability of the likeliest token: that one is enough. A hair more needs the next one, too.
    assert left(logits, 0, float(cumulated[0])) == {0}
    assert left(logits, 0, float(np.nextafter(cumulated[0], np.float32(1)))) == {0, 1}
    # Half exactly, which two of four equal tokens hold; but as likely as the last one in is in, too.
    assert left([1.0, 1.0, 1.0, -9.0], 2, 1.0) == {0, 1, 2}


def test_top_p_of_one_cuts_nothing() -> None:
    """In float32 the likeliest tokens' probabilities may add up to 1 before the last token is in."""
    logits = [0.0, *[-20.0] * 6]
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(logits, jnp.float32)))
    assert probabilities[0] == 1.0 and (probabilities > 0).all()
    assert left(logits, 0, 1.0) == set(range(7))
    assert left(logits, 0, float(np.nextafter(np.float32(1), np.float32(0)))) == {0}


def test_codes_are_in_the_order_of_the_numbers() -> None:
    numbers = np.asarray([-np.inf, -3e38, -1.5, -1.0, -1e-38, -0.0, 0.0, 1e-38, 1.0, 1.5, 3e38, np.inf], np.float32)
    codes = np.asarray(_ordered(jnp.asarray(numbers)))
    assert codes.dtype == np.uint32 and (np.diff(codes.astype(np.int64)) > 0).all()


def test_the_largest_threshold_is_found_among_all_bits() -> None:
    code = jnp.asarray([[1, 5, 2**31, 2**32 - 1], [0, 0, 7, 7]], jnp.uint32)
    for count, wanted in ((1, [2**32 - 1, 7]), (2, [2**31, 7]), (3, [5, 0]), (4, [1, 0]), (5, [0, 0])):
        found = _largest_threshold(code, lambda inside, count=count: jnp.sum(inside, axis=-1) >= count)
        assert found.tolist() == wanted


@pytest.mark.parametrize("cut", [None, (0, 1.0), (2, 1.0), (0, 0.6)])
def test_a_draw_is_the_categorical_one_of_its_own_key(cut: tuple[int, float] | None) -> None:
    rng = np.random.default_rng(1)
    rows = 24
    logits = rng.standard_normal((rows, 5)).astype(np.float32)
    keys = np.stack([row_key_data(3, "c", f"p{i}", i) for i in range(rows)])
    index = np.arange(rows, dtype=np.int32) % 4
    temperature = np.where(np.arange(rows) % 3 == 0, 0.0, 0.15 + np.arange(rows) % 7 / 5).astype(np.float32)
    given = None if cut is None else (jnp.full(rows, cut[0], jnp.int32), jnp.full(rows, cut[1], jnp.float32))
    found = draw(*map(jnp.asarray, (logits, keys, index, temperature)), given)
    for i in range(rows):
        if temperature[i] == 0:
            assert found[i] == logits[i].argmax()
            continue
        # The likeliest after Gumbel noise, which the row's key and the token's index decide.
        key = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(keys[i])), int(index[i]))
        scaled_logits = logits[i].astype(np.float64) / float(temperature[i])
        inside = by_definition(scaled_logits, *cut) if cut else set(range(5))
        noisy = scaled_logits + np.asarray(jax.random.gumbel(key, (5,), jnp.float32), np.float64)
        assert int(found[i]) == max(inside, key=lambda token: noisy[token])
    assert found.dtype == jnp.int32


def test_each_token_of_a_row_is_drawn_anew() -> None:
    key = jnp.asarray(row_key_data(0, "c", "p", 0))
    rows = 200
    tokens = draw(jnp.zeros((rows, 50)), jnp.tile(key, (rows, 1)), jnp.arange(rows), jnp.ones(rows))
    assert len(set(np.asarray(tokens).tolist())) > 40
    again = draw(jnp.zeros((1, 50)), key[None], jnp.asarray([7]), jnp.ones(1))
    assert int(again[0]) == int(tokens[7])


def test_a_key_is_the_digest_of_what_the_row_is() -> None:
    assert row_key_data(1, "base", "p", 2).tolist() == [1793940260, 1631399337]
    digest = hashlib.sha256(b"-3\x1fa,b\x1f5,6\x1f0").digest()
    wanted = [int.from_bytes(digest[at : at + 4], "little") for at in (0, 4)]
    assert row_key_data(-3, "a,b", "5,6", 0).tolist() == wanted
