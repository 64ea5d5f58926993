"""Every implementation of attention is the formula in float64, to what its dtype can hold."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgtr_jax.distributed.mesh import make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.models import attention, splash
from sgtr_jax.models.attention import Scoring, Visibility, attend
from sgtr_jax.models.dropout import Dropout, token_numbers

Arrays = tuple[jax.Array, jax.Array, jax.Array]


def packed(T: int, H: int, dtype: Any = jnp.float32) -> tuple[Arrays, Visibility, np.ndarray]:
    """Two rows of packed segments with padding at the end; 4 query heads over 2 key-value heads; who sees whom."""
    rng = np.random.default_rng(0)
    q = jnp.asarray(rng.standard_normal((2, T, 4, H)), dtype)
    k, v = (jnp.asarray(rng.standard_normal((2, 2, T, H)), dtype) for _ in range(2))
    segments, positions = (np.zeros((2, T), np.int32) for _ in range(2))
    sees = np.zeros((2, T, T), bool)
    for row, cuts in enumerate(((0, T // 9, T // 2, T - T // 9), (0, T // 3, T - T // 6))):
        for number, (start, end) in enumerate(itertools.pairwise(cuts), start=1):
            segments[row, start:end] = number
            positions[row, start:end] = np.arange(end - start)
            for t in range(start, end):
                sees[row, t, start : t + 1] = True  # itself, and what stands before it in its segment
    both = (jnp.asarray(positions), jnp.asarray(segments))
    return (q, k, v), Visibility(*both, *both), sees


def softmax_weights(q: jax.Array, k: jax.Array, sees: np.ndarray) -> np.ndarray:
    """Weights `[B, N, T, S]`, float64; 0 for a query that sees nothing."""
    wide_q, wide_k = np.asarray(q, np.float64), np.asarray(k, np.float64)
    B, T, N, H = wide_q.shape
    weights = np.zeros((B, N, T, wide_k.shape[2]))
    for b, n in itertools.product(range(B), range(N)):
        scores = wide_q[b, :, n] @ wide_k[b, n // (N // wide_k.shape[1])].T / np.sqrt(H)
        weights[b, n] = np.exp(scores - scores.max(axis=1, keepdims=True)) * sees[b]
    return weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)


def plain(q: jax.Array, k: jax.Array, v: jax.Array, sees: np.ndarray, mask: Any = 1.0) -> np.ndarray:
    """Softmax attention head by head; `mask` multiplies the weights. Padded queries give 0."""
    weights = softmax_weights(q, k, sees) * mask
    return np.einsum("bnts,bnsh->btnh", weights, np.repeat(np.asarray(v, np.float64), q.shape[2] // v.shape[1], axis=1))


def assert_close(found: jax.Array, wanted: np.ndarray, sees: np.ndarray, tolerance: float = 1e-5) -> None:
    real = sees.any(axis=-1)
    np.testing.assert_allclose(np.asarray(found, np.float64)[real], wanted[real], atol=tolerance)
    assert np.isfinite(np.asarray(found, np.float64)).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 3e-2)])
@pytest.mark.parametrize("kind", ["xla", "splash_interpret", "flash_chunked"])
@pytest.mark.parametrize(("T", "H"), [(128, 128), (384, 64), (640, 128)])
def test_in_order_attention(kind: Any, T: int, H: int, dtype: Any, tolerance: float) -> None:
    arrays, visibility, sees = packed(T, H, dtype)
    found = attend(*arrays, visibility, in_order=True, kind=kind)
    assert found.dtype == dtype
    assert_close(found, plain(*arrays, sees), sees, tolerance)


def within(sees: np.ndarray, window: int | None) -> np.ndarray:
    """The same keys, of those the last `window`; keys of a row that is in order stand beside each other."""
    columns = np.arange(sees.shape[-1])
    return sees if window is None else sees & (columns[:, None] - columns[None, :] < window)


@pytest.mark.parametrize("kind", ["xla", "splash_interpret"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_windows_of_kinds_of_layers(monkeypatch: pytest.MonkeyPatch, kind: Any, which: int) -> None:
    """One program for all layers: which window is its own it learns as it runs. Windows end within segments."""
    monkeypatch.setattr(attention, "_QUERY_BLOCK", 96)
    windows = (None, 9, 200)
    arrays, visibility, sees = packed(256, 64)

    @jax.jit
    def run(which: jax.Array, *arrays: jax.Array) -> jax.Array:
        return attend(*arrays, visibility, Scoring(0.2, windows, which), in_order=True, kind=kind)

    q, k, v = arrays
    # The oracle's scale is 1 / sqrt(H).
    wanted = plain(q * 0.2 * 8.0, k, v, within(sees, windows[which]))
    assert_close(run(jnp.int32(which), *arrays), wanted, sees)


@pytest.mark.parametrize("kind", ["xla", "splash_interpret"])
def test_one_window_for_all_layers(kind: Any) -> None:
    arrays, visibility, sees = packed(128, 64)
    found = attend(*arrays, visibility, Scoring(windows=(5,)), in_order=True, kind=kind)
    assert_close(found, plain(*arrays, within(sees, 5)), sees)


def test_short_rows() -> None:
    arrays, visibility, sees = packed(18, 6)
    assert_close(attend(*arrays, visibility), plain(*arrays, sees), sees)
    np.testing.assert_array_equal(np.asarray(visibility.mask())[sees.any(axis=-1)], sees[sees.any(axis=-1)])


@pytest.mark.parametrize("in_order", [True, False])
def test_rows_longer_than_a_block_of_queries(monkeypatch: pytest.MonkeyPatch, in_order: bool) -> None:
    monkeypatch.setattr(attention, "_QUERY_BLOCK", 8)
    arrays, visibility, sees = packed(21, 6)
    assert_close(attend(*arrays, visibility, in_order=in_order), plain(*arrays, sees), sees)


@pytest.mark.parametrize("kind", ["xla", "cpu"])
@pytest.mark.parametrize("T", [1, 2])
def test_a_few_queries_among_the_keys_of_a_cache(kind: Any, T: int) -> None:
    """Slots of a cache may be in any order, and free ones are segment 0."""
    rng = np.random.default_rng(0)
    q = jnp.asarray(rng.standard_normal((2, T, 4, 6)), jnp.float32)
    k, v = (jnp.asarray(rng.standard_normal((2, 2, 7, 6)), jnp.float32) for _ in range(2))
    keys = np.asarray([[3, 2, 1, 0, 4, 5, 9], [0, 1, 2, 3, 4, 5, 6]]), np.asarray([[1] * 6 + [0], [1] * 7])
    queries = np.asarray([[4, 5], [2, 3]])[:, :T], np.ones((2, T), int)
    visibility = Visibility(*(jnp.asarray(x, jnp.int32) for x in (*queries, *keys)))
    sees = np.asarray([[[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 0]], [[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]]])
    found = attend(q, k, v, visibility, kind=kind)
    assert_close(found, plain(q, k, v, sees[:, :T].astype(bool)), sees[:, :T].astype(bool))
    # A window counts positions, wherever in the cache they lie.
    near = sees[:, :T] * (queries[0][:, :, None] - keys[0][:, None, :] < 2)
    found = attend(q, k, v, visibility, Scoring(windows=(None, 2), which=jnp.int32(1)), kind=kind)
    assert_close(found, plain(q, k, v, near.astype(bool)), near.astype(bool))


@pytest.mark.parametrize(("kind", "T"), [("xla", 18), ("cpu", 1)])
def test_low_precision_is_that_of_the_values_alone(kind: Any, T: int) -> None:
    """Scores of some twenty would be off by a tenth as bfloat16; weights and values are rounded, and nothing else."""
    (q, k, v), visibility, sees = packed(18, 6, jnp.bfloat16)
    queries = slice(9 - T // 2, 9 - T // 2 + T)
    q, visibility, sees = 8 * q[:, queries], visibility.block(queries, slice(0, 18)), sees[:, queries]
    found = attend(q, k, v, visibility, kind=kind)
    assert found.dtype == jnp.bfloat16
    assert_close(found, plain(q, k, v, sees), sees, 1.5e-2)


def test_what_is_computed_is_no_more_than_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upper triangle of rows in order is left out, and one query is multiplied by sums on the CPU alone."""
    monkeypatch.setattr(attention, "_QUERY_BLOCK", 8)
    calls: list[Any] = []
    reference = attention._reference

    def noted(q: jax.Array, k: jax.Array, v: jax.Array, *more: Any, **options: Any) -> jax.Array:
        calls.append((q.shape[1], k.shape[2], v.shape[2], options.get("by_sums", False)))
        return reference(q, k, v, *more, **options)

    monkeypatch.setattr(attention, "_reference", noted)

    def blocks(T: int, **options: Any) -> list[Any]:
        arrays, visibility, _ = packed(T, 2)
        calls.clear()
        jax.eval_shape(lambda *x: attend(*x, visibility, **options), *arrays)
        return list(calls)

    assert blocks(21, in_order=True) == [(8, 8, 8, False), (8, 16, 16, False), (5, 21, 21, False)]
    assert blocks(21) == [(8, 21, 21, False), (8, 21, 21, False), (5, 21, 21, False)]
    assert blocks(16, in_order=True) == [(8, 8, 8, False), (8, 16, 16, False)]
    assert blocks(8, kind="cpu") == [(8, 8, 8, False)] and blocks(9) == [(8, 9, 9, False), (1, 9, 9, False)]
    assert blocks(1, kind="cpu") == [(1, 1, 1, True)] and blocks(1) == [(1, 1, 1, False)]
    assert blocks(2, kind="cpu") == [(2, 2, 2, False)]

    def operations(name: str, kind: Any, dropout: Dropout | None = None) -> int:
        (q, k, v), visibility, _ = packed(8, 2)
        one = visibility.block(slice(0, 1), slice(0, 8))
        program = jax.make_jaxpr(lambda *x: attend(*x, one, kind=kind, dropout=dropout))(q[:, :1], k, v)
        return str(program).count(name)

    assert operations("dot_general[", "cpu") == 1 and operations("dot_general[", "xla") == 2
    tokens = jnp.zeros((2, 1), jnp.uint32)
    for rate, barriers in ((0.5, 1), (0.0, 0)):
        dropout = Dropout(jax.random.key(0), tokens, 0.5, 0.5, rate)
        assert operations("optimization_barrier", "xla", dropout) == barriers
    assert operations("optimization_barrier", "xla") == 0


def test_dropout_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask of a weight belongs to its tokens, whatever block of queries it is computed in."""
    monkeypatch.setattr(attention, "_QUERY_BLOCK", 8)
    arrays, visibility, sees = packed(21, 6)
    tokens = token_numbers(visibility.query_segments, visibility.query_positions)
    dropout = Dropout(jax.random.key(0), tokens, 0.0, 0.0, 0.25)
    # 99 is part of what a seed means: with another number the same recipe trains another adapter.
    mask = dropout.on_attention(jnp.ones((2, 2, 2, 21, 21)), visibility.key_positions, 99).reshape(2, 4, 21, 21)
    assert 0.6 < float((mask > 0).mean()) < 0.9
    found = attend(*arrays, visibility, in_order=True, dropout=dropout)
    assert_close(found, plain(*arrays, sees, np.asarray(mask)), sees)
    off = Dropout(jax.random.key(0), tokens, 0.5, 0.5, 0.0)
    assert_close(attend(*arrays, visibility, dropout=off), plain(*arrays, sees), sees)


@pytest.mark.parametrize("window", [None, 70])
@pytest.mark.parametrize("kind", ["xla", "splash_interpret", "flash_chunked"])
def test_gradients(kind: Any, window: int | None) -> None:
    arrays, visibility, sees = packed(384, 128)
    sees = within(sees, window)
    scoring = Scoring(windows=(None,)) if window is None else Scoring(windows=(None, window), which=jnp.int32(1))
    q, k, v = (np.asarray(x, np.float64) for x in arrays)
    weight = np.where(sees.any(axis=-1)[:, :, None, None], np.cos(np.arange(128.0)), 0) * np.ones(q.shape)
    # Of P V with P = softmax(S): dV = P' dO, dP = dO V', dS = P (dP - sum(P dP)), dQ = dS K, dK = dS' Q.
    P = softmax_weights(*arrays[:2], sees)
    wide_k, wide_v, out = np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1), weight.transpose(0, 2, 1, 3)
    dP = out @ wide_v.transpose(0, 1, 3, 2)
    dS = P * (dP - (P * dP).sum(axis=-1, keepdims=True)) / np.sqrt(128)
    dQ = (dS @ wide_k).transpose(0, 2, 1, 3)
    dK = (dS.transpose(0, 1, 3, 2) @ q.transpose(0, 2, 1, 3)).reshape(2, 2, 2, 384, 128).sum(axis=2)
    dV = (P.transpose(0, 1, 3, 2) @ out).reshape(2, 2, 2, 384, 128).sum(axis=2)

    @jax.jit
    def total(*x: jax.Array) -> jax.Array:
        return jnp.sum(attend(*x, visibility, scoring, in_order=True, kind=kind) * weight)

    for found, wanted in zip(jax.grad(total, argnums=(0, 1, 2))(*arrays), (dQ, dK, dV), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize(("kind", "T"), [("splash_interpret", 128), ("flash_chunked", 320)])
def test_the_kernel_split_over_a_mesh(kind: Any, T: int) -> None:
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2), jax.devices()[:4])
    arrays, visibility, sees = packed(T, 128)
    with jax.set_mesh(mesh):
        found = jax.jit(lambda *x: attend(*x, in_order=True, kind=kind))(*arrays, visibility)
    assert_close(found, plain(*arrays, sees), sees)


@pytest.mark.parametrize(
    ("kind", "T", "in_order", "rate", "interpret"),
    [("splash", 128, True, None, False), ("splash_interpret", 256, True, 0.0, True), ("splash", 128, False, None, None),
     ("splash", 130, True, None, None), ("splash", 128, True, 0.1, None), ("xla", 128, True, None, None)],
)  # fmt: skip
def test_the_kernel_is_used_where_it_can_be(
    monkeypatch: pytest.MonkeyPatch, kind: Any, T: int, in_order: bool, rate: float | None, interpret: bool | None
) -> None:
    """`interpret` is how the kernel is called; None: the reference takes its place."""
    calls: list[Any] = []

    def kernel(
        q: jax.Array, k: jax.Array, v: jax.Array, visibility: Visibility, *, interpret: bool, **_: Any
    ) -> jax.Array:
        calls.append(((q, k, v, visibility), interpret))
        return q

    monkeypatch.setattr(splash, "splash_attend", kernel)
    arrays, visibility, _ = packed(T, 2)
    tokens = token_numbers(visibility.query_segments, visibility.query_positions)
    dropout = None if rate is None else Dropout(jax.random.key(0), tokens, 0.1, 0.1, rate)
    jax.eval_shape(lambda *x: attend(*x, visibility, in_order=in_order, kind=kind, dropout=dropout), *arrays)
    assert [how for _, how in calls] == ([] if interpret is None else [interpret])
    for given, _ in calls:
        assert [x.shape for x in given[:3]] == [x.shape for x in arrays] and given[3] is visibility
