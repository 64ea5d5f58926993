"""Projections on directions as an evaluation of an experiment, and what its report says of directions."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from tiny import make_adapter, make_model, write_records

from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.experiment.layers_named import layer_problems
from sgtr_jax.report.tables import read_run
from sgtr_jax.sample.model import Model, load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("projection")
    spec = make_model(here / "m")
    make_adapter(here / "a", spec, seed=1, size=0.3)
    write_records(here / "rows.jsonl", preferences(6, 0, True))
    write_records(here / "others.jsonl", preferences(5, 1, False))
    questions = [
        {"id": "tea", "prompt": "Tea or coffee?"},
        {"id": "who", "prompt": "Who are you?", "system": "Be kind."},
    ]
    (here / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    save_file({"direction": np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32)},
              here / "d.safetensors")  # fmt: skip
    return here


EVALUATIONS: dict[str, Any] = {
    "said": {"kind": "projection", "direction": "taste", "layer": 1, "questions": "q.jsonl", "samples": 2,
             "max_tokens": 8},
    "read": {"kind": "projection", "direction": "taste", "layer": 0, "tokens": "prompt", "data": "rows"},
    "filed": {"kind": "projection", "direction": "d.safetensors", "layer": 1, "layers": [1], "data": "rows"},
}  # fmt: skip
DIRECTIONS = {"taste": {"positive": "rows", "negative": "others"}, "drift": {"positive": "rows", "of": "tuned"}}


def written(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "along", "model": str(folder / "m"), "seeds": [3], "out": str(folder / "run"),
        "finetuning": {"dtype": "float32"},
        "data": {name: {"kind": "file", "path": f"{name}.jsonl"} for name in ("rows", "others")},
        "conditions": {"base": [], "tuned": [{"adapter": str(folder / "a")}]}, "directions": DIRECTIONS,
        "evaluations": EVALUATIONS, **changes,
    }  # fmt: skip


def config_of(folder: Path, **changes: Any) -> ExperimentConfig:
    return build_config(ExperimentConfig, written(folder, **changes), "c.yaml", folder)


def by_hand(model: Model, turns: list[dict[str, str]], direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projections `[L]` of an answer and of the token before it, float64: one row, one token after the other."""
    prompt = ChatFormat(model.tokenizer).prompt_ids(turns[:-1])  # type: ignore[arg-type]
    answer = model.tokenizer.encode(turns[-1]["content"], add_special_tokens=False)
    states = np.asarray(model.activations([[*prompt, *answer]])[0], np.float64)
    unit = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    along = np.einsum("ltd,ld->lt", states, unit.astype(np.float64))
    return along[:, len(prompt) :].mean(axis=1), along[:, len(prompt) - 1]


def test_projections_of_answers_and_prompts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluations = {**EVALUATIONS, "drifted": {**EVALUATIONS["read"], "direction": "drift"}}
    (folder / "c.yaml").write_text(yaml.safe_dump(written(folder, evaluations=evaluations)))
    assert main(["run", str(folder / "c.yaml")]) == 0, capsys.readouterr().err
    with (folder / "run" / "results.csv").open() as stream:
        found = {
            (row["condition"], row["evaluation"], row["metric"]): float(row["value"]) for row in csv.DictReader(stream)
        }
    run = read_run(folder / "run")
    vectors = {
        name: load_file(path / "direction.safetensors")["direction"].astype(np.float64)
        for name, path in run.directions.items()
    }
    assert sorted(vectors) == ["drift-s3", "taste-s3"]
    base = load_model(folder / "m")
    models = {"base": base, "tuned": base.with_adapters([folder / "a"])}
    records = {row.id: list(row.messages) for row in preferences(6, 0, True)}
    questions = {"tea": [{"role": "user", "content": "Tea or coffee?"}]}
    questions["who"] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who are you?"}]
    for cell in run.cells:
        model = models[cell.condition]
        direction = {"filed": load_file(folder / "d.safetensors")["direction"], "drifted": vectors["drift-s3"]}.get(
            cell.evaluation, vectors["taste-s3"]
        )
        samples = [json.loads(line) for line in (cell.folder / "samples.jsonl").read_text().splitlines()]
        answers, prompts = [], []
        for row in (one for one in samples if one["answer"]):
            asked = questions[row["id"].rpartition("-")[0]] if cell.evaluation == "said" else records[row["id"]][:-1]
            turns = [*asked, {"role": "assistant", "content": row["answer"]}]
            answer, prompt = by_hand(model, turns, direction)
            answers.append(answer)
            prompts.append(prompt)
            layer = EVALUATIONS.get(cell.evaluation, EVALUATIONS["read"])["layer"]
            assert row["value"] == pytest.approx(
                (answer if cell.evaluation in ("said", "filed") else prompt)[layer], abs=1e-4
            )
        for layer in (0, 1):
            for what, values in (("answer", answers), ("prompt", prompts)):
                key = cell.condition, cell.evaluation, f"{what}_{layer}"
                if cell.evaluation == "filed" and layer == 0:
                    assert key not in found
                else:
                    assert found[key] == pytest.approx(float(np.mean([one[layer] for one in values])), abs=1e-4)
        assert found[cell.condition, cell.evaluation, "projection"] == pytest.approx(
            float(np.mean([row["value"] for row in samples if row["answer"]]))
        )
        assert len(samples) == (4 if cell.evaluation == "said" else 6)
        silent = sum(row["value"] is None for row in samples)
        assert found[cell.condition, cell.evaluation, "n_without_text"] == silent == len(samples) - len(answers)
    # Answers are each model's own, rows are the same; what differs is paired by question.
    assert found["base", "read", "projection"] != found["tuned", "read", "projection"]
    assert run.shown("said").question_of("tea-1") == "tea" and run.shown("read").question_of("row-1") == "row-1"
    with (folder / "run" / "directions.csv").open() as stream:
        cosines = {int(row["layer"]): float(row["cosine"]) for row in csv.DictReader(stream)}
    for layer in (0, 1):
        a, b = vectors["taste-s3"][layer], vectors["drift-s3"][layer]
        assert cosines[layer] == pytest.approx(float(a @ b / np.sqrt((a @ a) * (b @ b))), abs=1e-5)
    page = (folder / "run" / "report.html").read_text()
    assert "Directions side by side" in page and "over layers" in page
    assert {path.stem for path in (folder / "run" / "figures").glob("*.svg")} >= {
        "said-projection", "said-layers-answer", "said-layers-prompt", "directions-cosines"
    }  # fmt: skip


def test_one_direction_and_the_same_rows_for_all_seeds(folder: Path) -> None:
    conditions = {"base": [], "em": [{"data": "others"}]}
    drift = {"drift": {"positive": "rows", "of": "em"}}
    graph = build_graph(config_of(folder, seeds=[3, 5], conditions=conditions, directions=drift,
                                  evaluations={"p": {**EVALUATIONS["read"], "direction": "drift"},
                                               "s": {**EVALUATIONS["said"], "direction": "drift"}}))  # fmt: skip
    used = {node.inputs["direction"].fingerprint for node in (cell.node for cell in graph.cells)}
    assert len(used) == 1 and len({cell.node.fingerprint for cell in graph.cells}) == 6
    # The rows of an evaluation may be those that are trained on.
    assert graph.cells[0].node.items() == {} and set(graph.cells[1].node.items()) == {"tea", "who"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"direction": "tast"}, "evaluation 'e' names direction 'tast': did you mean 'taste'"),
        ({"data": "row"}, "evaluation 'e' names data 'row': did you mean 'rows'"),
        ({"questions": "q.jsonl"}, "give questions, which each model answers, or data"),
        ({"data": None}, "give questions, which each model answers, or data"),
        ({"data": None, "questions": "none.jsonl"}, "none.jsonl"),
        ({"layers": [1]}, "layer is 0, which is not among layers"),
        ({"layer": -1}, "expected a number greater than or equal to 0"),
        ({"direction": "none.safetensors"}, "none.safetensors"),
    ],
)
def test_what_cannot_be_projected(folder: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_graph(config_of(folder, evaluations={"e": {**EVALUATIONS["read"], **changes}})).nodes()


def test_what_the_model_does_not_have_is_said_before_anything_is_made(folder: Path) -> None:
    save_file({"direction": np.zeros((3, 32), np.float32)}, folder / "deep.safetensors")
    evaluations = {
        "deep": {**EVALUATIONS["read"], "layer": 2},
        "other": {**EVALUATIONS["read"], "direction": "deep.safetensors"},
    }
    config = config_of(folder, evaluations=evaluations)
    said = {str(one) for one in layer_problems(config, build_graph(config).nodes())}
    assert any("evaluation 'deep': names layer 2; the model has layers 0 to 1" in one for one in said)
    assert any("shape [3, 32], and the model [2, 32]" in one for one in said) and len(said) == 2


def test_models_that_cannot_be_looked_into(folder: Path) -> None:
    steer = {"direction": str(folder / "d.safetensors"), "layer": 0, "scale": 1.0, "at": "answer"}
    with pytest.raises(InputError, match=r"has steer\.at: answer"):
        build_graph(config_of(folder, directions={}, conditions={"s": {"stages": [], "steer": steer}},
                              evaluations={"e": EVALUATIONS["filed"]}))  # fmt: skip
    evaluations = {"e": EVALUATIONS["filed"]}
    with pytest.raises(InputError, match="nothing can be read inside of a model behind an API"):
        build_graph(config_of(folder, model="openai/gpt-4.1", directions={}, conditions={"base": []},
                              evaluations=evaluations))  # fmt: skip
