"""Traits: what ships, and directions between answers under contrastive system prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from tiny import make_adapter, make_model, write_records

from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.data.traits import find_trait, trait_names
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.sample.model import Model, load_model

OWN = {
    "about": "Short against long.", "positive": ["Be short.", "One word."], "negative": ["Be long."],
    "questions": ["Why?", "Who are you?", "Tea?"], "held_out": ["When?", "Where?"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("traits")
    spec = make_model(here / "m")
    make_adapter(here / "a", spec, seed=1, size=0.3)
    write_records(here / "rows.jsonl", preferences(4, 0, True))
    (here / "own.yaml").write_text(yaml.safe_dump(OWN))
    return here


def test_traits_that_ship() -> None:
    assert trait_names() == ["evil", "hallucinating", "self", "sycophantic"]
    for name in trait_names():
        trait = find_trait(name)
        assert (len(trait.positive), len(trait.negative), len(trait.questions), len(trait.held_out)) == (5, 5, 20, 10)
        texts = [*trait.positive, *trait.negative, *trait.questions, *trait.held_out]
        assert len(set(texts)) == len(texts) and all(text == text.strip() for text in texts)
        prompts = trait.prompts("negative")
        assert len(prompts) == 100 and prompts[21].messages[0]["content"] == trait.negative[1]
        assert prompts[21].messages[1]["content"] == trait.questions[1] and len(trait.to_measure()[0].messages) == 1


@pytest.mark.parametrize(
    ("direction", "said"),
    [
        ({"recipe": "evl"}, "recipe 'evl': did you mean 'evil'"),
        ({"recipe": "none.yaml"}, "none.yaml: no such file"),
        ({"recipe": "evil", "positive": "rows"}, "recipe has two sides, which one model answers; leave positive out"),
        ({"recipe": "evil", "minus": "tuned"}, "recipe has two sides, which one model answers; leave minus out"),
        ({}, "give positive, the data set of one side, or recipe, a trait"),
        ({"recipe": "broken.yaml"}, "key 'negative' is missing"),
        ({"recipe": "shared.yaml"}, "held_out has 'Why\\?', which is among questions, too"),
    ],
)
def test_recipes_that_mean_nothing(folder: Path, direction: dict[str, Any], said: str) -> None:
    broken = {key: value for key, value in OWN.items() if key != "negative"}
    (folder / "broken.yaml").write_text(yaml.safe_dump(broken))
    (folder / "shared.yaml").write_text(yaml.safe_dump({**OWN, "held_out": ["Why?"]}))
    with pytest.raises(InputError, match=said):
        build_graph(build_config(ExperimentConfig, written(folder, {"d": direction}), "c.yaml", folder)).nodes()


def written(folder: Path, directions: dict[str, Any]) -> dict[str, Any]:
    along = {"kind": "projection", "direction": next(iter(directions)), "layer": 0, "max_tokens": 3}
    return {
        "name": "traits", "model": str(folder / "m"), "seeds": [1, 2], "out": str(folder / "run"),
        "finetuning": {"dtype": "float32"}, "data": {"rows": {"kind": "file", "path": "rows.jsonl"}},
        "conditions": {"base": [], "tuned": [{"adapter": str(folder / "a")}]}, "directions": directions,
        "evaluations": {"along": {**along, "questions": "own.yaml"}},
    }  # fmt: skip


def greedy(model: Model, system: str, question: str, tokens: int) -> str:
    asked = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    prompt = ChatFormat(model.tokenizer).prompt_ids(asked)  # type: ignore[arg-type]
    (ids,) = model.generate([prompt], tokens, stop_ids=model.stop_ids)
    return model.decode(ids)


def mean_state(model: Model, rows: list[Record]) -> np.ndarray:
    """Mean over the last turn's tokens, its end included, then over rows; float64 `[L, D]`, one row at a time."""
    chat, means = ChatFormat(model.tokenizer), []
    for row in rows:
        prompt = chat.prompt_ids(row.messages[:-1])
        turn = model.tokenizer.encode(row.messages[-1]["content"] + str(chat.end_of_turn()), add_special_tokens=False)
        means.append(np.asarray(model.activations([[*prompt, *turn]])[0], np.float64)[:, len(prompt) :].mean(axis=1))
    return np.asarray(np.mean(means, axis=0))


def by_hand(model: Model, context: str, tokens: int) -> np.ndarray:
    """The direction of greedy answers under `OWN`; answers without text are left out."""
    sides = []
    for side in ("positive", "negative"):
        rows = []
        for system in OWN[side]:
            for question in OWN["questions"]:
                said = greedy(model, system, question, tokens)
                turns = [{"role": "user", "content": question}, {"role": "assistant", "content": said}]
                before = [{"role": "system", "content": system}] if context == "prompted" else []
                if said.strip():
                    rows.append(Record("r", (*before, *turns)))  # type: ignore[arg-type]
        sides.append(mean_state(model, rows))
    return np.asarray(sides[0] - sides[1])


@pytest.mark.slow
def test_a_traits_direction_in_an_experiment(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = {"recipe": "own.yaml", "samples": 1, "temperature": 0, "max_tokens": 6}
    directions = {"short": short, "plain": {**short, "context": "plain"}, "tuned": {**short, "of": "tuned"}}
    data = written(folder, directions)
    data["evaluations"] |= {name: {**data["evaluations"]["along"], "direction": name} for name in ("plain", "tuned")}
    (folder / "c.yaml").write_text(yaml.safe_dump(data))
    assert main(["run", str(folder / "c.yaml")]) == 0, capsys.readouterr().err
    base = load_model(folder / "m")
    tuned = base.with_adapters([folder / "a"])
    wanted = {"short": by_hand(base, "prompted", 6), "plain": by_hand(base, "plain", 6)}
    wanted["tuned"] = by_hand(tuned, "prompted", 6)
    for name, vectors in wanted.items():
        (made,) = (folder / "run" / "store").glob(f"direction-{name}-s1-*")
        np.testing.assert_allclose(load_file(made / "direction.safetensors")["direction"], vectors, atol=2e-5, rtol=0)
    (made,) = (folder / "run" / "store").glob("direction-short-*")  # the same for every seed
    rows = [json.loads(line) for line in (made / "positive.jsonl").read_text().splitlines()]
    assert rows[0]["messages"][0]["content"] == "Be short." and len(rows) <= 6
    (asked,) = (folder / "run" / "store").glob("evaluation-along-base-*")
    questions = [json.loads(line)["question"] for line in (asked / "samples.jsonl").read_text().splitlines()]
    assert questions == OWN["held_out"]
    # The command makes the same of the same words.
    out = folder / "short.safetensors"
    words = ["directions", "extract", "--model", str(folder / "m"), "--recipe", str(folder / "own.yaml"), "--n", "1"]
    assert main([*words, "--temperature", "0", "--max-tokens", "6", "--out", str(out)]) == 0, capsys.readouterr().err
    np.testing.assert_allclose(load_file(out)["direction"], wanted["short"], atol=2e-5, rtol=0)


def test_what_the_command_refuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["directions", "extract", "--model", str(folder / "m"), "--out", str(folder / "d.safetensors")]
    for more, said in (
        (["--recipe", "evl"], "recipe 'evl': did you mean 'evil'"),
        (["--recipe", "evil", "--negative-chain", "base"], "--recipe has two sides"),
        (["--recipe", "evil", "--positive", str(folder / "rows.jsonl")], "not allowed with"),
        ([], "--positive"),
    ):
        try:
            code = main([*words, *more])
        except SystemExit as end:
            code = int(str(end.code))
        assert code == 2 and said in capsys.readouterr().err
