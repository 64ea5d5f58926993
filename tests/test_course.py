"""The course of training: adapters kept on the way are those of the whole run, also of one that was interrupted."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import make_model, write_records

from sgtr_jax.config import build_config
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError, Interrupted
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.experiment.node import in_order
from sgtr_jax.files import read_json
from sgtr_jax.finetune.jobs import Finetune
from sgtr_jax.finetune.local import finetune
from sgtr_jax.json_types import JsonObject
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.interrupt import StopRequest

SETTINGS: JsonObject = {
    "lr": 1e-2, "batch_examples": 4, "dtype": "float32", "remat": "none", "lora": {"rank": 2, "alpha": 4.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("course")
    make_model(here / "m")
    write_records(here / "rows.jsonl", preferences(24, 0, True))
    return here


def job(folder: Path, out: str, **settings: object) -> Finetune:
    config = build_config(TrainConfig, {**SETTINGS, **settings}, "test")  # type: ignore[dict-item]
    return Finetune(str(folder / "m"), (), preferences(24, 0, True), config, folder / out)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "adapter_model.safetensors")


def test_kept_on_the_way_and_after_an_interruption(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [0.25, 4, 1.0]  # of six steps: 2, 4 and 6
    finetune(job(folder, "whole", measure_at=points))
    assert read_json(folder / "whole" / "report.json")["kept_at"] == {"0.25": 2, "4": 4, "1.0": 6}
    kept = {step: weights(folder / "whole" / "at" / str(step)) for step in (2, 4, 6)}
    for name, last in weights(folder / "whole" / "adapter").items():
        np.testing.assert_array_equal(kept[6][name], last)
    assert any(np.abs(kept[2][name] - kept[4][name]).max() > 1e-4 for name in kept[2])
    # The same run without it, and the same one stopped behind step 3.
    finetune(job(folder, "plain"))
    for name, last in weights(folder / "plain" / "adapter").items():
        np.testing.assert_array_equal(kept[6][name], last)
    counts = itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "at", lambda self, count: next(counts) == 3)
        with pytest.raises(Interrupted):
            finetune(job(folder, "stopped", measure_at=points))
    assert sorted(path.name for path in (folder / "stopped" / "at").iterdir()) == ["2"]
    with pytest.raises(InputError, match="the adapter of step 1 was not kept"):
        finetune(job(folder, "stopped", measure_at=[1, 6]))
    finetune(job(folder, "stopped", measure_at=points))
    for step, wanted in kept.items():
        for name, found in weights(folder / "stopped" / "at" / str(step)).items():
            np.testing.assert_array_equal(found, wanted[name])


def test_a_step_that_never_comes(folder: Path) -> None:
    with pytest.raises(InputError, match="step 7 is beyond the run's 6 steps"):
        finetune(job(folder, "beyond", measure_at=[7]))


def config(folder: Path, **changes: object) -> ExperimentConfig:
    stages = [{"data": "rows", "measure_at": [0.5, 1.0]}, {"data": "rows", "measure_at": [0.5, 2]}]
    data: dict[str, object] = {
        "name": "course", "model": str(folder / "m"), "seeds": [0], "finetuning": SETTINGS,
        "data": {"rows": {"kind": "file", "path": str(folder / "rows.jsonl")}},
        "conditions": {"base": [], "em": stages[:1], "reversal": stages},
        "evaluations": {"two_choice": {"kind": "two_choice"}}, **changes,
    }  # fmt: skip
    return build_config(ExperimentConfig, data, "test")  # type: ignore[arg-type]


def test_an_experiment_measures_each_point(folder: Path) -> None:
    made = config(folder)
    assert list(made.conditions) == [
        "base", "em", "reversal", "em-at-0.5", "reversal-1-at-0.5", "reversal-1-at-1", "reversal-2-at-0.5",
        "reversal-2-at-2",
    ]  # fmt: skip
    graph = build_graph(made)
    kinds = [node.kind for node in graph.nodes()]
    # Two trainings, whatever is measured on their way; the first one's half is one artifact for both conditions.
    assert kinds.count("adapter") == 2 and kinds.count("kept_adapter") == 4
    by_condition = {cell.condition: cell.node for cell in graph.cells}
    assert by_condition["em-at-0.5"].fingerprint == by_condition["reversal-1-at-0.5"].fingerprint
    last = by_condition["reversal-2-at-2"].chain
    assert [node.kind for node in last] == ["adapter", "kept_adapter"]
    assert list(config(folder, only="em").wanted_conditions) == ["em", "em-at-0.5"]
    # What is stored of a run is read again as it was.
    again = build_config(ExperimentConfig, made.model_dump(mode="json"), "stored")
    assert [node.fingerprint for node in in_order([c.node for c in build_graph(again).cells])] == [
        node.fingerprint for node in graph.nodes()
    ]
