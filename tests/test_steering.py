"""Steering while sampling: each row its own, the same however rows are batched, and as greedy decoding by hand says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import make_adapter, make_model

import sgtr_jax
from sgtr_jax.cli.main import main
from sgtr_jax.distributed.mesh import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.models.decoder import bind
from sgtr_jax.models.residual import ResidualEdits
from sgtr_jax.sample.directions import Direction
from sgtr_jax.sample.model import Model

VECTORS = np.random.default_rng(5).standard_normal((2, 32)).astype(np.float32)
PROMPT = [5, 9, 200, 31, 7]
ROWS: list[Any] = [
    None,
    {"direction": VECTORS, "layer": 0, "scale": 2.0},
    {"direction": VECTORS, "layer": 0, "scale": -2.0},
    {"direction": VECTORS, "layer": 1, "scale": 2.0},
    {"direction": VECTORS, "layer": 1, "scale": 2.0, "at": "answer"},
    {"direction": VECTORS[0], "layer": 0, "project": "out"},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("steering")
    spec = make_model(folder / "m")
    make_adapter(folder / "a", spec, seed=1, size=0.3)
    Direction(VECTORS, {}).write(folder / "d.safetensors")
    return sgtr_jax.load_model(folder / "m", mesh=MeshConfig())


def by_hand(model: Model, steer: Any, tokens: int) -> list[int]:
    """Greedy continuation without a cache: whole forward passes, edited as the row says."""
    edits = np.zeros((2, 2, 32), np.float32)  # removed and added
    if steer is not None:
        vector = VECTORS[steer["layer"]]
        if steer.get("project"):
            edits[0, steer["layer"]] = vector / np.linalg.norm(vector)
        else:
            edits[1, steer["layer"]] = steer["scale"] * vector
    decoder, ids = bind(model.spec, model.params), list(PROMPT)
    forward = jax.jit(lambda chain, rows, edits: decoder.forward(*rows, chain=chain, edits=edits))
    for _ in range(tokens):
        rows = [jnp.asarray([x], jnp.int32) for x in (ids, list(range(len(ids))), [1] * len(ids))]
        edited = None if steer is None else ResidualEdits(*map(jnp.asarray, edits))
        hidden = forward(model.chain, rows, edited)
        ids.append(int(jnp.argmax(decoder.logits(hidden[0, -1]))))
    return ids[len(PROMPT) :]


@pytest.mark.parametrize("under", ["base", "adapter"])
def test_each_row_is_steered_by_its_own(model: Model, under: str) -> None:
    subject = model if under == "base" else model.with_adapter(model.folder.parent / "a")
    found = subject.generate([PROMPT] * len(ROWS), 6, steer=ROWS)
    # Editing the prompt, too, is another thing for all layers but the last, whose prompt states nothing reads again.
    for row, steer in enumerate(ROWS):
        if steer is None or steer.get("at") != "answer":
            assert found[row] == by_hand(subject, steer, 6), steer
    assert len({tuple(one) for one in found}) >= 4  # they are not all the same for want of steering
    assert subject.generate([PROMPT], 6, steer=ROWS[1]) == [found[1]] == subject.steered(ROWS[1]).generate([PROMPT], 6)


def test_answer_spares_the_prompt(model: Model) -> None:
    """The first token is the unsteered model's. (All of them are compared with torch's hooks in `parity`.)"""
    steer: Any = {"direction": VECTORS, "layer": 0, "scale": -2.0, "at": "answer"}
    (found,) = model.generate([PROMPT], 5, steer=steer)
    (plain,) = model.generate([PROMPT], 5)
    assert found[0] == plain[0]
    (everywhere,) = model.generate([PROMPT], 5, steer={**steer, "at": "all"})
    assert found != plain and found != everywhere


def test_scores_are_those_of_the_steered_model(model: Model) -> None:
    steered = model.steered(ROWS[1])
    (found,) = steered.engine.score([PROMPT], [[11, 12]])
    added = np.zeros((2, 32), np.float32)
    added[0] = 2 * VECTORS[0]
    ids = [*PROMPT, 11, 12]
    rows = [jnp.asarray([x], jnp.int32) for x in (ids, list(range(7)), [1] * 7)]
    decoder = bind(model.spec, model.params)
    logits = decoder.logits(decoder.forward(*rows, edits=ResidualEdits(added=jnp.asarray(added)))[0])
    wanted = jax.nn.log_softmax(logits)[jnp.asarray([4, 5]), jnp.asarray([11, 12])]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(steered.engine.next_token_logprobs([PROMPT], [[11]])[0], wanted[:1], atol=1e-5)
    (states,) = steered.activations([ids])
    assert abs(states - model.activations([ids])[0]).max() > 1
    with pytest.raises(InputError, match="at is answer"):
        model.steered(ROWS[4]).engine.score([PROMPT], [[11]])


def test_a_dose_response_curve_in_a_file(model: Model, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text(json.dumps({"id": "q", "messages": [{"role": "user", "content": "Which one?"}]}) + "\n")
    direction = model.folder.parent / "d.safetensors"
    words = ["sample", "--model", str(model.folder), "--prompts", str(prompts), "--temperature", "0"]
    words += ["--max-tokens", "6", f"steer.direction={direction}", "steer.layer=0"]
    assert main([*words, "--out", str(tmp_path / "o.jsonl"), "steer.scale=2", "doses=[0, 1, -1]"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["scale"] for row in rows] == [0, 2, -2]
    assert main([*words, "--out", str(tmp_path / "one.jsonl"), "steer.scale=2"]) == 0
    assert json.loads((tmp_path / "one.jsonl").read_text())["text"] == rows[1]["text"] != rows[2]["text"]


@pytest.mark.parametrize(
    ("steer", "said"),
    [
        ({"direction": VECTORS, "layer": 2, "scale": 1.0}, "layers 0 to 1"),
        ({"direction": VECTORS, "layer": 0}, "give scale, to add the direction, or project: out"),
        ({"direction": VECTORS, "layer": 0, "scale": 1.0, "project": "out"}, "give scale"),
        ({"direction": VECTORS[:, :4], "layer": 0, "scale": 1.0}, r"shape \[2, 4\]; expected \[2, 32\]"),
        ({"direction": np.zeros(32), "layer": 0, "project": "out"}, "nothing can be taken out"),
        ({"direction": VECTORS, "layer": 0, "scale": 1.0, "where": 1}, "where"),
    ],
)
def test_what_cannot_be_done_is_refused(model: Model, steer: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        model.generate([PROMPT], 1, steer=steer)
