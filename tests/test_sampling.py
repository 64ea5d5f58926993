"""Sampling: draws that depend on what a row is and not on its company, sharded or not."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SEED, make_adapter, make_model

import sgtr_jax
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.sample.config import SamplingParams
from sgtr_jax.sample.engine import Engine
from sgtr_jax.sample.model import Model
from sgtr_jax.sample.request import Request
from sgtr_jax.sample.sampling import draw, row_key_data


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("model") / "m"
    spec = make_model(folder, SEED)
    make_adapter(folder.parent / "a", spec, size=0.3)
    return sgtr_jax.load_model(folder)


def requests(count: int = 6, samples: int = 2) -> list[Request]:
    rng = np.random.default_rng(0)
    return [
        Request(f"p{i}", tuple(map(int, rng.integers(3, 300, 1 + 6 * i))), 5 + i % 3, float(i % 2), 7, sample)
        for i in range(count)
        for sample in range(samples)
    ]


def test_a_draw_does_not_depend_on_its_batch(model: Model) -> None:
    wanted = model.engine.sample(requests(), (0,))
    for rows in (3, 16):
        engine = model.engine_for({"base": ()}, batch_rows=rows)
        assert engine.sample(requests(), (0,)) == wanted
    backwards = model.engine.sample(requests()[::-1], (0,))
    assert backwards[::-1] == wanted
    assert model.engine.sample(requests()[3:4], (0,)) == wanted[3:4]


@pytest.mark.parametrize("mesh", [MeshConfig(fsdp=8), MeshConfig(replica=2, fsdp=2, tensor=2)])
def test_sharded_sampling_draws_the_same(model: Model, mesh: MeshConfig) -> None:
    sharded = sgtr_jax.load_model(model.folder, mesh=mesh)
    assert sharded.engine.sample(requests(), (0,)) == model.engine.sample(requests(), (0,))


def test_seed_sample_and_chain_change_the_draw_and_greedy_does_not(model: Model) -> None:
    prompt = (5, 6, 7)
    base = Request("p", prompt, 12, 1.0, 0, 0)
    draws = {
        model.engine.sample([request], ())[0].tokens
        for request in (base, Request("p", prompt, 12, 1.0, 1, 0), Request("p", prompt, 12, 1.0, 0, 1))
    }
    assert len(draws) == 3
    named = Engine(model.spec, model.params, model.mesh, {"other": ()})
    assert named.sample([base], ())[0].tokens not in draws
    greedy = {model.engine.sample([Request("p", prompt, 12, 0.0, seed)], ())[0].tokens for seed in range(3)}
    assert len(greedy) == 1


def test_an_adapter_is_sampled_from(model: Model) -> None:
    adapted = model.with_adapters([model.folder.parent / "a"])
    prompts = [[5, 6, 7], [9] * 20]
    assert adapted.generate(prompts, 10) != model.generate(prompts, 10)
    # Greedy with a cache is the argmax of the forward pass without one.
    for prompt, generated in zip(prompts, adapted.generate(prompts, 10), strict=True):
        logits = adapted.logits([prompt + generated])[0]
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == list(generated)


def test_scores_without_a_cache_are_the_forward_pass(model: Model) -> None:
    prompts = [[5], [6, 7, 8], list(range(3, 40))]
    scored = model.engine.next_token_logprobs(prompts, [range(model.spec.vocab_size)] * len(prompts))
    for prompt, row in zip(prompts, scored, strict=True):
        np.testing.assert_allclose(row, jax.nn.log_softmax(model.logits([prompt])[0, -1]), atol=1e-5)


def test_finish_reasons(model: Model) -> None:
    (free,) = model.engine.sample([Request("p", (5, 6), 8)], ())
    assert free.finish == "length" and len(free.tokens) == 8
    stop = free.tokens[3]
    (stopped,) = model.engine.sample([Request("p", (5, 6), 8)], (stop,))
    assert stopped.finish == "stop" and stopped.tokens == free.tokens[: free.tokens.index(stop)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-6, 6), min_size=2, max_size=12), st.floats(0.3, 3.0))
def test_draws_follow_the_softmax(scores: list[float], temperature: float) -> None:
    count = 4000
    logits = jnp.tile(jnp.asarray(scores, jnp.float32), (count, 1))
    keys = jnp.asarray(np.stack([row_key_data(0, "c", "p", i) for i in range(count)]))
    drawn = np.asarray(draw(logits, keys, jnp.zeros(count, jnp.int32), jnp.full(count, temperature, jnp.float32)))
    shares = np.bincount(drawn, minlength=len(scores)) / count
    wanted = np.asarray(jax.nn.softmax(jnp.asarray(scores) / temperature))
    # Five standard errors, twenty examples of at most twelve tokens.
    assert (np.abs(shares - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / count) + 1e-3).all()


def test_row_keys_are_the_same_on_every_machine() -> None:
    assert row_key_data(1, "base", "p", 2).tolist() == [1793940260, 1631399337]


def test_the_rows_of_the_command(model: Model, tmp_path: Path) -> None:
    from sgtr_jax.data.chat import ChatFormat
    from sgtr_jax.data.records import Record
    from sgtr_jax.sample.completions import sample_prompts

    prompts = [Record("b", ({"role": "user", "content": "Hi"},)), Record("a", ({"role": "user", "content": "Who?"},))]
    rows = sample_prompts(model, prompts, 3, SamplingParams(max_tokens=6), ChatFormat(model.tokenizer))
    assert [(row["id"], row["sample"]) for row in rows] == [(i, n) for i in "ba" for n in range(3)]
    assert all(row.keys() == {"id", "sample", "text", "tokens", "finish_reason"} for row in rows)
    assert all(row["tokens"] <= 6 and row["finish_reason"] in ("stop", "length") for row in rows)
    assert json.dumps(rows)
