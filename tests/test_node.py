"""A fingerprint holds everything that decides an artifact's content, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from sgtr_eval.facts import facts_of
from sgtr_jax.errors import InputError
from sgtr_jax.experiment import nodes, tasks
from sgtr_jax.experiment.asked import Base
from sgtr_jax.experiment.node import Node, in_order, kinds
from sgtr_jax.experiment.nodes.adapter import AdapterNode
from sgtr_jax.experiment.nodes.articles import WorldArticles, articles_node
from sgtr_jax.experiment.nodes.records import PreferencesData, Records
from sgtr_jax.experiment.training_node import TrainingNode
from sgtr_jax.train.config import TrainConfig

DATA = Records("d", PreferencesData(kind="preferences", rows=4, popular=True), {})


@dataclass(frozen=True, eq=False)
class Made(Node):
    """A node whose settings and inputs are those it is given."""

    version = 7
    name: str
    given: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Node] = field(default_factory=dict)
    kind: str = "records"  # type: ignore[misc]

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.given

    @property
    def inputs(self) -> Mapping[str, Node]:
        return self.sources


def test_a_fingerprint_is_the_digest_of_kind_version_settings_and_inputs() -> None:
    def digest(content: dict[str, Any]) -> str:
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    data = Made("d", {"b": 1, "a": "ä"})
    below = digest({"kind": "records", "version": 7, "settings": {"a": "ä", "b": 1}, "inputs": {}})
    assert data.fingerprint == below
    top = Made("t", {"x": [1]}, {"z": data, "data": data}, kind="adapter")
    content = {"kind": "adapter", "version": 7, "settings": {"x": [1]}, "inputs": {"data": below, "z": below}}
    assert top.fingerprint == digest(content)
    assert top.to_json() == {"kind": "adapter", "name": "t", "fingerprint": digest(content), "settings": {"x": [1]}}


def test_a_raised_version_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [DATA, articles_node(WorldArticles(rows=3)), stage(TrainConfig())]
    before = {node.fingerprint for node in made}
    assert len(before) == len(made)
    again = [DATA, articles_node(WorldArticles(rows=3)), stage(TrainConfig())]
    for node in made:
        monkeypatch.setattr(type(node), "version", type(node).version + 1)
    after = {replace(node).fingerprint for node in again}  # type: ignore[type-var]
    assert not after & before and len(after) == len(made)


def test_the_name_is_for_people_and_cut_where_it_is_long() -> None:
    plain, long = Made("x"), Made("n" * 300)
    assert plain.fingerprint == long.fingerprint == Made("a/b").fingerprint
    end = f"-{plain.fingerprint[:12]}"
    assert plain.folder == f"records-x{end}" and long.folder == f"records-{'n' * 120}{end}"
    assert Made("a/b").folder == f"records-a_b{end}"


def test_inputs_come_before_what_is_made_from_them_and_once() -> None:
    articles = Made("a")
    own, same, other = (Made(name, {"by": by}, {"articles": articles}) for name, by in
                        (("own", 0), ("same", 0), ("other", 1)))  # fmt: skip
    pairs = Made("p", {}, {"own": own, "other": other})
    again = Made("r", {}, {"own": same, "pairs": pairs})
    assert [node.name for node in in_order([pairs, again, pairs])] == ["a", "own", "other", "p", "r"]
    assert in_order([]) == []


def test_every_kind_is_a_file_of_its_own() -> None:
    nodes.discover()
    files = {path.stem for path in Path(nodes.__file__).parent.glob("*.py")} - {"__init__"}
    trained = {"adapter", "finetuned", "kept_adapter"}
    assert kinds() == {"articles", "summaries", "pairs", "records", "self_reports", "answers", "evaluation",
                       "released", "direction", "selected"} | trained  # fmt: skip
    assert len(files) >= len(kinds()) and trained <= files
    assert {node.kind for node in TrainingNode.__subclasses__()} == trained


@pytest.mark.parametrize(
    "change",
    [{"max_grad_norm": 0.5}, {"weight_decay": 0.2}, {"lr": 2e-5}, {"warmup_steps": 7}, {"schedule": "cosine"},
     {"adam_b1": 0.8}, {"adam_b2": 0.9}, {"adam_eps": 1e-6}, {"epochs": 3}, {"batch_examples": 4}, {"seed": 9},
     {"max_length": 99}, {"overlong": "cut"}, {"shuffle": False}, {"max_steps": 3}, {"dtype": "float32"},
     {"base_dtype": "int8"}, {"lora": {"rank": 8}}, {"lora": {"alpha": 8.0}}, {"lora": {"rslora": False}},
     {"lora": {"dropout": 0.1}}, {"lora": {"targets": ("q_proj",)}}, {"lora": {"init": "x"}}, {"merge": "bfloat16"},
     {"residual_dropout": 0.1}, {"attention_dropout": 0.1}, {"system": "none"}, {"inoculation": "Be odd."},
     {"thinking_budget": 0}, {"measure_at": (0.5,)}, {"kl": {"weight": 0.1}}, {"feature_l2": {"weight": 0.1}},
     {"lora": {"layers": (0,)}}, {"steer": {"direction": "d.safetensors", "layers": (0,), "scale": 1.0}}],
    ids=lambda change: ",".join(f"{key}={value}" for key, value in change.items()),
)  # fmt: skip
def test_what_changes_a_training_changes_its_fingerprint(
    change: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.safetensors").write_bytes(b"known by what it holds")
    assert identity(change) != identity({})


def test_settings_of_defences_that_are_not_used_are_no_part_of_a_training() -> None:
    """Adapters of before there were such settings stay what they were."""
    found = stage(TrainConfig()).training_identity
    assert not {"kl", "feature_l2", "steer", "measure_at"} & found.keys()
    assert set(found["lora"]) == {"rank", "alpha", "rslora", "dropout", "targets", "init"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"accumulate": 2}, {"remat": "none"}, {"attention": "xla"}, {"runs_at_once": 2}, {"mesh": "auto"},
     {"checkpoint": {"every_steps": 7}}, {"log": {"wandb": "x"}}, {"profile": {}}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_changes_speed_and_memory_alone_does_not(change: dict[str, object]) -> None:
    assert identity(change) == identity({})


def test_every_setting_of_a_training_is_in_one_of_the_two_lists() -> None:
    """A new setting is to be thought about: does it decide the outcome?"""
    both = (test_what_changes_a_training_changes_its_fingerprint, test_what_changes_speed_and_memory_alone_does_not)
    named = {key for test in both for mark in test.pytestmark for change in mark.args[1] for key in change}  # type: ignore[attr-defined]
    # `mode: full` is not in an experiment, and its identity is compared when a run is resumed.
    assert named | {"mode"} == set(TrainConfig.model_fields)


def stage(training: TrainConfig) -> AdapterNode:
    return AdapterNode("x", Base("m", "digest"), training, DATA)


def identity(settings: dict[str, object]) -> str:
    return stage(TrainConfig.model_validate(settings)).fingerprint


def test_what_a_task_takes_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(name: str, **fields: Any) -> Any:
        made.append(name)
        return create_model(name, **fields)

    monkeypatch.setattr(tasks, "create_model", counted)
    tasks._model_of.cache_clear()
    tasks._check_types.cache_clear()
    for seed in range(3):
        assert tasks.task_arguments(facts_of("truthfulqa"), {"limit": 5}, seed, "here") == {"seed": seed, "limit": 5}
    assert made == ["truthfulqa"]
    with pytest.raises(InputError, match=r"there: .*limit"):
        tasks.task_arguments(facts_of("truthfulqa"), {"limit": 0}, 0, "there")
    with pytest.raises(InputError, match="there"):
        tasks.task_arguments(facts_of("truthfulqa"), {"limit": {1}}, 0, "there")
