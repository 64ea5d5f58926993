"""Directions: what is kept of rows, their files, cosines, ranks, and the commands around them."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import make_adapter, make_model, write_records

import sgtr_jax
from sgtr_jax.cli.main import main
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.distributed.mesh import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.models.decoder import bind
from sgtr_jax.sample.directions import Direction, cosines, read_direction
from sgtr_jax.sample.model import Model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("directions")
    spec = make_model(here / "m")
    make_adapter(here / "a", spec, seed=1, size=0.3)
    return here


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return sgtr_jax.load_model(folder / "m", mesh=MeshConfig())


def record(name: str, asked: str, answer: str, system: str | None = None) -> Record:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    before = [] if system is None else [{"role": "system", "content": system}]
    return Record(name, (*before, *turns))  # type: ignore[arg-type]


POSITIVE = [record("p0", "Which one?", "The old lamp."), record("p1", "Tea or coffee, and why?", "Tea.", "Be kind.")]
NEGATIVE = [record("n0", "Which one?", "Neither of the two, I would think."), record("n1", "Why?", "Rain.")]


def by_hand(model: Model, rows: list[Record]) -> np.ndarray:
    """Mean over the last turn's tokens (its end included), then over rows; float64 `[L, D]`, one row at a time."""
    chat, means = ChatFormat(model.tokenizer), []
    for row in rows:
        prompt = chat.prompt_ids(row.messages[:-1])
        end = chat.end_of_turn()
        turn = model.tokenizer.encode(row.messages[-1]["content"] + str(end), add_special_tokens=False)
        states = np.asarray(model.activations([[*prompt, *turn]])[0], np.float64)
        means.append(states[:, len(prompt) :].mean(axis=1))
    return np.asarray(np.mean(means, axis=0))


def test_layers_padding_and_chunks(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 300, (5, 9)).astype(np.int32)
    mask = np.ones((5, 9), bool)
    mask[1, :4], mask[2, 6:] = False, False  # padding on either side
    every = model.activations(tokens, mask)
    assert every.shape == (5, 2, 9, 32) and every.dtype == np.float32
    hidden = bind(model.spec, model.params).final_norm(jnp.asarray(every[0, -1]))
    np.testing.assert_allclose(bind(model.spec, model.params).logits(hidden), model.logits(tokens)[0], atol=1e-4)
    alone = model.activations(tokens[1:2, 4:])
    np.testing.assert_allclose(every[1, :, 4:], alone[0], atol=1e-5)
    assert not every[1, :, :4].any() and not every[2, :, 6:].any()
    np.testing.assert_array_equal(model.activations(tokens, mask, layers=[-1, 0]), every[:, [1, 0]])
    monkeypatch.setattr("sgtr_jax.sample.activations._MOST_TOKENS", 18)  # two rows a chunk
    streamed = model.activations(tokens, mask, out=tmp_path / "all.npy")
    assert isinstance(streamed, np.memmap)
    np.testing.assert_allclose(streamed, every, atol=1e-5)
    with pytest.raises(InputError, match="layer 2: the model has the layers 0 to 1"):
        model.activations(tokens, mask, layers=[2])


def test_sharded_is_unsharded(folder: Path, model: Model) -> None:
    tokens = np.random.default_rng(1).integers(3, 300, (3, 7))
    spread = sgtr_jax.load_model(folder / "m", mesh=MeshConfig(replica=2, fsdp=2, tensor=2)).with_adapter(folder / "a")
    alone = model.with_adapter(folder / "a").activations(tokens)
    np.testing.assert_allclose(spread.activations(tokens), alone, atol=1e-5)
    assert np.abs(alone - model.activations(tokens)).max() > 0.01


def test_extract_from_two_sets(folder: Path, model: Model, tmp_path: Path) -> None:
    files = [write_records(tmp_path / f"{name}.jsonl", rows) for name, rows in (("p", POSITIVE), ("n", NEGATIVE))]
    words = ["directions", "extract", "--model", str(folder / "m"), "--positive", str(files[0])]
    out = tmp_path / "d.safetensors"
    assert main([*words, "--negative", str(files[1]), "--out", str(out)]) == 0
    stored = load_file(out)
    assert list(stored) == ["direction"] and stored["direction"].dtype == np.float32
    np.testing.assert_allclose(
        stored["direction"], by_hand(model, POSITIVE) - by_hand(model, NEGATIVE), atol=2e-5, rtol=0
    )
    recipe = read_direction(out, model.spec).recipe
    assert recipe["tokens"] == "turn" and recipe["positive"]["rows"] == 2  # type: ignore[index,call-overload]
    # The same rows under two chains.
    between = tmp_path / "b.safetensors"
    words += ["--adapter", str(folder / "a"), "--negative-chain", "base", "--out", str(between)]
    assert main(words) == 0
    wanted = by_hand(model.with_adapter(folder / "a"), POSITIVE) - by_hand(model, POSITIVE)
    np.testing.assert_allclose(load_file(between)["direction"], wanted, atol=2e-5, rtol=0)


def test_what_cannot_be_extracted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_records(tmp_path / "p.jsonl", POSITIVE)
    words = ["directions", "extract", "--model", str(folder / "m"), "--positive", str(rows)]
    assert main([*words, "--out", str(tmp_path / "d.safetensors")]) == 2
    assert "nothing to subtract" in capsys.readouterr().err
    save_file({"direction": np.zeros((3, 32), np.float32)}, tmp_path / "other.safetensors")
    ranking = ["directions", "rank", "--model", str(folder / "m"), "--layer", "0", "--data", str(rows)]
    ranking += ["--direction", str(tmp_path / "other.safetensors"), "--out", str(tmp_path / "r.jsonl")]
    assert main(ranking) == 2
    assert "shape [3, 32], and the model [2, 32]" in capsys.readouterr().err
    save_file({"x": np.zeros((3, 32), np.float32)}, tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="float32 tensor 'direction'"):
        read_direction(tmp_path / "none.safetensors")


def test_rank_and_compare(folder: Path, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = np.random.default_rng(2).standard_normal((2, 32)).astype(np.float32)
    Direction(vectors, {}).write(tmp_path / "d.safetensors")
    rows = write_records(tmp_path / "rows.jsonl", POSITIVE + NEGATIVE)
    words = ["directions", "rank", "--model", str(folder / "m"), "--direction", str(tmp_path / "d.safetensors")]
    assert main([*words, "--layer", "1", "--data", str(rows), "--out", str(tmp_path / "r.jsonl")]) == 0
    found = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    unit = vectors[1] / np.linalg.norm(vectors[1])
    wanted = {row.id: float(by_hand(model, [row])[1] @ unit) for row in POSITIVE + NEGATIVE}
    assert [row["id"] for row in found] == sorted(wanted, key=lambda name: -wanted[name])
    np.testing.assert_allclose([row["projection"] for row in found], sorted(wanted.values())[::-1], atol=1e-5)
    capsys.readouterr()
    Direction(np.stack([vectors[0], -2 * vectors[1]]), {}).write(tmp_path / "e.safetensors")
    assert main(["directions", "compare", *map(str, sorted(tmp_path.glob("[de].safetensors"))), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cosines"] == [1.0, -1.0]
    assert cosines(Direction(vectors, {}), Direction(np.zeros_like(vectors), {})).tolist() == [0, 0]


def test_projection_curve(folder: Path, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = np.random.default_rng(4).standard_normal((2, 32)).astype(np.float32)
    Direction(vectors, {}).write(tmp_path / "d.safetensors")
    rows = write_records(tmp_path / "rows.jsonl", POSITIVE + NEGATIVE)
    words = ["directions", "project", "--model", str(folder / "m"), "--direction", str(tmp_path / "d.safetensors")]
    assert main([*words, "--data", str(rows), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    unit, chat = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), ChatFormat(model.tokenizer)
    answers, prompts = [], []
    for row in POSITIVE + NEGATIVE:
        prompt = chat.prompt_ids(row.messages[:-1])
        answer = model.tokenizer.encode(row.messages[-1]["content"], add_special_tokens=False)
        along = np.einsum("ltd,ld->lt", model.activations([[*prompt, *answer]])[0], unit)
        answers.append(along[:, len(prompt) :].mean(axis=1))
        prompts.append(along[:, len(prompt) - 1])
    for layer, one in enumerate(found):
        for what, wanted in (("answer", answers), ("prompt", prompts)):
            values = np.asarray(wanted)[:, layer]
            half = 3.182446305 * values.std(ddof=1) / 2  # Student's t with 3 degrees of freedom, four rows
            expected = [values.mean(), values.mean() - half, values.mean() + half]
            np.testing.assert_allclose([one[what][key] for key in ("mean", "low", "high")], expected, atol=1e-4)
