"""The engine: many chains in one batch, rows that come and go, cuts, stops, scores, prefixes, memory."""

from __future__ import annotations

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tiny import QWEN, make_adapter, make_model

import sgtr_jax
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.sample import engine as engine_module
from sgtr_jax.sample.model import Model
from sgtr_jax.sample.prefill import plan_batches
from sgtr_jax.sample.request import Request
from sgtr_jax.sample.sampling import draw, row_key_data


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("model") / "m"
    spec = make_model(folder, QWEN)
    make_adapter(folder.parent / "a", spec, seed=1, size=0.3)
    make_adapter(folder.parent / "b", spec, seed=2, size=0.3, rank=2, targets=("q_proj", "up_proj"))
    return sgtr_jax.load_model(folder)


def chains_of(model: Model) -> dict[str, Model]:
    a, b = model.folder.parent / "a", model.folder.parent / "b"
    return {"base": model, "a": model.with_adapters([a]), "ab": model.with_adapters([a, b])}


def prompt(seed: int, length: int) -> tuple[int, ...]:
    return tuple(map(int, np.random.default_rng(seed).integers(3, 300, length)))


@pytest.mark.parametrize("mesh", [None, MeshConfig(replica=2, fsdp=2, tensor=2)])
@pytest.mark.parametrize("batch_rows", [4, 64])
def test_chains_side_by_side_are_each_what_they_are_alone(
    model: Model, batch_rows: int, mesh: MeshConfig | None
) -> None:
    models = chains_of(model)
    wanted = {}
    for name, one in models.items():
        rows = [Request(f"p{i}", prompt(i, 3 + 5 * i), 4 + 3 * (i % 3), float(i % 2), 5, n, name)
                for i in range(4) for n in range(2 if name == "a" else 1)]  # fmt: skip
        alone = model.engine_for({name: one.chain})
        wanted[name] = list(zip(rows, alone.sample(rows, (0,)), strict=True))
    mixed = [pair for group in itertools.zip_longest(*wanted.values()) for pair in group if pair]
    base = model if mesh is None else sgtr_jax.load_model(model.folder, mesh=mesh)
    names = {"a": ["a"], "ab": ["a", "b"], "base": []}
    folder = model.folder.parent
    chains = {name: base.with_adapters([folder / link for link in links]).chain for name, links in names.items()}
    together = base.engine_for(chains, batch_rows=batch_rows)
    found = together.sample([request for request, _ in mixed], (0,))
    assert [c.tokens for c in found] == [c.tokens for _, c in mixed]
    with pytest.raises(InputError, match="the engine has"):
        together.sample([Request("p", (5,), 2)])


def test_more_chains_than_are_held_at_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_MAX_CHAINS", 2)
    models = chains_of(model)
    rows = [Request(f"p{i}", prompt(i, 9), 6, 1.0, 0, 0, name) for name in models for i in range(5)]
    engine = model.engine_for({name: one.chain for name, one in models.items()}, batch_rows=4)
    alone = [model.engine_for({name: one.chain}) for name, one in models.items()]
    wanted = [c for i, one in enumerate(alone) for c in one.sample(rows[5 * i : 5 * i + 5])]
    assert engine.sample(rows) == wanted


def test_rows_come_and_go_and_each_is_reported_once_as_soon_as_it_is_done(model: Model) -> None:
    rows = [Request(f"p{i}", prompt(i, 2 + i % 7), 1 + (7 * i) % 40, 1.0, 3) for i in range(40)]
    order: list[int] = []
    engine = model.engine_for({"base": ()}, batch_rows=8)
    found = engine.sample(rows, (0,), lambda i, completion: order.append(i))
    assert sorted(order) == list(range(40)) and order != sorted(order)
    assert found == model.engine_for({"base": ()}, batch_rows=64).sample(rows, (0,))
    assert all(len(c.tokens) <= r.max_tokens for c, r in zip(found, rows, strict=True))


@settings(max_examples=15, deadline=None)
@given(
    # Apart by a twentieth at least: what float32 takes for equally likely is kept or cut together.
    scores=st.lists(st.integers(-100, 100).map(lambda n: n / 20), min_size=3, max_size=10, unique=True),
    temperature=st.floats(0.4, 2.0),
    top_k=st.integers(0, 6),
    top_p=st.floats(0.05, 1.0),
    seed=st.integers(0, 10**6),
)
def test_cut_draws_follow_the_exact_distribution(
    scores: list[float], temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    """Chi-square against the softmax over what temperature, top-k and top-p leave, in that order."""
    count = 3000
    wanted = np.exp(np.float64(scores) / temperature)
    wanted /= wanted.sum()
    order = np.argsort(-wanted)
    kept = order[:top_k] if top_k else order
    inside = wanted[kept] / wanted[kept].sum()
    before = np.cumsum(inside) - inside
    if np.abs(np.cumsum(inside) - top_p).min() < 1e-5:
        return  # on the edge, where float32 may go either way
    kept = kept[before < top_p]
    logits = jnp.tile(jnp.asarray(scores, jnp.float32), (count, 1))
    keys = jnp.asarray(np.stack([row_key_data(seed, "c", "p", i) for i in range(count)]))
    cut = (jnp.full(count, top_k, jnp.int32), jnp.full(count, top_p, jnp.float32))
    drawn = np.asarray(draw(logits, keys, jnp.zeros(count, jnp.int32), jnp.full(count, temperature, jnp.float32), cut))
    assert set(drawn) <= set(kept.tolist())
    expected = count * wanted[kept] / wanted[kept].sum()
    found = np.bincount(drawn, minlength=len(scores))[kept]
    big = expected >= 5
    if big.sum() > 1:
        rest = [[found[~big].sum()], [expected[~big].sum()]] if expected[~big].sum() >= 5 else [[], []]
        f, e = np.append(found[big], rest[0]), np.append(expected[big], rest[1])
        assert stats.chisquare(f, e * f.sum() / e.sum()).pvalue > 1e-6


def test_what_is_not_cut_is_drawn_as_without_cutting(model: Model) -> None:
    plain = Request("p", prompt(0, 9), 20, 1.0, 1)
    cut = Request("q", prompt(1, 9), 20, 1.0, 1, top_k=3, top_p=0.8)
    engine = model.engine
    assert engine.sample([plain, cut])[0] == engine.sample([plain])[0]
    one = Request("q", prompt(1, 9), 20, 1.0, 1, top_k=1)
    greedy = Request("q", prompt(1, 9), 20)
    assert engine.sample([one])[0].tokens == engine.sample([greedy])[0].tokens


def test_logprobs_are_those_of_the_forward_pass(model: Model) -> None:
    request = Request("p", prompt(3, 12), 9, 1.0, 4, logprobs=3)
    other = Request("q", prompt(4, 5), 9, 1.0, 4)
    found, without = model.engine.sample([request, other])
    assert without.logprobs is None and found.logprobs is not None and len(found.logprobs) == 9
    for i, one in enumerate(found.logprobs):
        every = jax.nn.log_softmax(model.logits([[*request.tokens, *found.tokens[:i]]])[0, -1])
        assert one.token == found.tokens[i] and one.logprob == pytest.approx(float(every[one.token]), abs=1e-4)
        best = np.argsort(-np.asarray(every))[:3]
        assert [token for token, _ in one.top] == best.tolist()
    (bare,) = model.engine.sample([Request("p", prompt(3, 12), 2, logprobs=0)])
    assert bare.logprobs is not None and [one.top for one in bare.logprobs] == [(), ()]


def test_stop_texts_and_ids_of_a_row(model: Model) -> None:
    (free,) = model.engine.sample([Request("p", prompt(0, 9), 40, 1.0, 2)])
    text = free.text
    assert len(text) > 12
    stop = text[8:10]
    cut_at = text.index(stop)
    for rows in (1, 16):
        company = [Request(f"c{i}", prompt(i + 9, 4), 30, 1.0) for i in range(rows)]
        stopped, *_ = model.engine.sample([Request("p", prompt(0, 9), 40, 1.0, 2, stop=("\n\n\n", stop)), *company])
        assert stopped.text == text[:cut_at] and stopped.finish == "stop"
        assert stopped.tokens == free.tokens[: len(stopped.tokens)]
        assert stop not in model.decode(stopped.tokens[:-1])
    token = free.tokens[5]
    ended, other = model.engine.sample(
        [Request("p", prompt(0, 9), 40, 1.0, 2, stop_ids=(token,)), Request("p", prompt(0, 9), 40, 1.0, 2)]
    )
    assert ended.tokens == free.tokens[: free.tokens.index(token)] and other.tokens == free.tokens


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"tokens": ()}, "no tokens"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop": ("",)}, "empty text"),
        ({"max_tokens": 5000}, "exceed the model's 512 positions"),
        ({"tokens": (99999,)}, "vocabulary"),
    ],
)
def test_impossible_requests_are_refused(model: Model, change: dict[str, object], part: str) -> None:
    fields: dict[str, object] = {"prompt_id": "p", "tokens": (5,), "max_tokens": 2, **change}
    with pytest.raises(InputError, match=part):
        model.engine.sample([Request(**fields)])  # type: ignore[arg-type]


def test_scores_of_continuations(model: Model) -> None:
    prompts = [prompt(i, 4 + 9 * i) for i in range(5)]
    tails = [prompt(100 + i, 1 + i) for i in range(5)]
    adapted = model.with_adapters([model.folder.parent / "a"])
    for one, found in ((adapted, adapted.engine.score(prompts, tails)), (model, model.engine.score(prompts, tails))):
        for start, tail, values in zip(prompts, tails, found, strict=True):
            every = jax.nn.log_softmax(one.logits([[*start, *tail]])[0])
            wanted = [every[len(start) - 1 + i, token] for i, token in enumerate(tail)]
            np.testing.assert_allclose(values, wanted, atol=1e-4)


def shared(count: int, length: int = 150) -> list[tuple[int, ...]]:
    """Prompts of three groups, each with a beginning of its own, and two that stand alone."""
    starts = [prompt(50 + g, length + 7 * g) for g in range(3)]
    grouped = [(*starts[i % 3], *prompt(i, 3 + i % 11)) for i in range(count)]
    return [*grouped, prompt(77, 30), prompt(78, 5)]


def test_shared_prefixes_change_nothing(model: Model) -> None:
    prompts = shared(12)
    plan = plan_batches(prompts, 4096)
    assert sum(len(batch.prefixes) for batch in plan) >= 3
    plain = model.engine_for({"base": ()}, share_prefixes=False)
    options = [(4, 5, 6)] * len(prompts)
    shares, whole = (engine.next_token_logprobs(prompts, options) for engine in (model.engine, plain))
    for a, b in zip(shares, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    tails = [prompt(5, 3)] * len(prompts)
    for a, b in zip(model.engine.score(prompts, tails), plain.score(prompts, tails), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    rows = [Request(f"p{i}", tokens, 8, float(i % 2), 0, n) for i, tokens in enumerate(prompts) for n in range(2)]
    assert model.engine.sample(rows) == plain.sample(rows)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 90), st.integers(0, 5)), min_size=1, max_size=25),
    st.integers(100, 4000),
    st.booleans(),
)
def test_every_prompt_is_in_one_batch_whole(parts: list[tuple[int, int, int]], most: int, share: bool) -> None:
    starts = [prompt(g, 100) for g in range(4)]
    prompts = [(*starts[g][:n], *range(3, 3 + k)) for g, n, k in parts]
    tails = [min(len(p), 1 + i % 3) for i, p in enumerate(prompts)]
    batches = plan_batches(prompts, most, share, tails)
    rows = [row for batch in batches for row in batch.rows]
    assert sorted(rows) == list(range(len(prompts)))
    for batch in batches:
        for row, which, rest in zip(batch.rows, batch.which, batch.rests, strict=True):
            start = batch.prefixes[which] if batch.prefixes else ()
            assert (*start, *rest) == prompts[row] and len(rest) >= tails[row]


def test_as_many_rows_as_memory_holds(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Request(f"p{i}", prompt(i, 9), 12, 1.0) for i in range(64)]
    wanted = model.engine_for({"base": ()}).sample(rows)
    seen: list[int] = []

    def peak(compiled: object) -> int:
        seen.append(1)
        return 100 if len(seen) > 2 else 10_000  # the first two programs are too large

    monkeypatch.setattr(engine_module, "usable_memory", lambda mesh: 900)
    monkeypatch.setattr(engine_module, "peak_bytes", peak)
    assert model.engine_for({"base": ()}).sample(rows) == wanted and len(seen) == 3
    monkeypatch.setattr(engine_module, "peak_bytes", lambda compiled: 10_000)
    with pytest.raises(RunError, match="lower max_tokens"):
        model.engine_for({"base": ()}).sample(rows)


def test_a_prompt_of_many_samples_is_run_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = model.engine_for({"base": ()}, batch_rows=4)
    ran: list[int] = []
    run = engine._forward.prefill

    def counted(chain: object, prompts: list[tuple[int, ...]], steering: None) -> object:
        ran.append(len(prompts))
        return run(chain, prompts, steering)  # type: ignore[arg-type]

    monkeypatch.setattr(engine._forward, "prefill", counted)
    engine.sample([Request(f"p{i}", prompt(i, 30), 5, 1.0, 0, n) for i in range(3) for n in range(20)])
    assert sum(ran) == 3


def test_files_of_a_chain_may_be_any_folder(model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="PEFT adapter folder"):
        model.with_adapters([tmp_path])
