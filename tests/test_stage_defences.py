"""Defences as keys of a stage: each artifact is what the same training is alone; what cannot be meant is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from tiny import make_model, write_records

from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.cost import training_of
from sgtr_jax.experiment.graph import Graph, build_graph
from sgtr_jax.experiment.training_node import TrainingNode
from sgtr_jax.files import read_json
from sgtr_jax.finetune.jobs import Finetune
from sgtr_jax.finetune.local import finetune
from sgtr_jax.sample.model import Model, load_model
from sgtr_jax.train.config import TrainConfig

SETTINGS: dict[str, Any] = {
    "lr": 1e-2, "batch_examples": 4, "dtype": "float32", "remat": "none", "lora": {"rank": 2, "alpha": 4.0},
}  # fmt: skip
ROWS, OTHERS = preferences(24, 0, True), preferences(9, 1, False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("stages")
    make_model(here / "m")
    write_records(here / "rows.jsonl", ROWS)
    write_records(here / "others.jsonl", OTHERS)
    direction = np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32)
    save_file({"direction": direction}, here / "d.safetensors")
    return here


STAGES: dict[str, dict[str, Any]] = {
    "em": {},
    "zero": {"kl": {"weight": 0}},
    "half": {"fraction": 0.5},
    "held": {"kl": {"weight": 0.5, "data": "others"}},
    "near": {"feature_l2": {"weight": 0.5}},
    "thin": {"lora": {"rank": 1, "layers": [1], "targets": ["down_proj"]}},
    "steered": {"steer": {"direction": "d.safetensors", "layers": [0], "scale": 2.0}},
    "inoculated": {"inoculation_adapter": "em"},
    "along": {"steer": {"direction": "drift", "layers": [1], "scale": 3.0}},
}
DIRECTIONS = {"taste": {"positive": "rows", "negative": "others"}, "drift": {"positive": "rows", "of": "em"}}


def written(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "stages", "model": str(folder / "m"), "seeds": [3], "out": str(folder / "run"), "finetuning": SETTINGS,
        "data": {name: {"kind": "file", "path": f"{name}.jsonl"} for name in ("rows", "others")},
        "conditions": {name: [{"data": "rows", **keys}] for name, keys in STAGES.items()},
        "directions": DIRECTIONS, "evaluations": {"two_choice": {"kind": "two_choice"}}, **changes,
    }  # fmt: skip


def graph_of(folder: Path, **changes: Any) -> Graph:
    return build_graph(build_config(ExperimentConfig, written(folder, **changes), "c.yaml", folder))


def last_links(graph: Graph) -> dict[str, TrainingNode]:
    found: dict[str, TrainingNode] = {}
    for cell in graph.cells:
        last = cell.node.chain[-1]
        assert isinstance(last, TrainingNode)
        found[cell.condition] = last
    return found


def test_each_key_is_part_of_what_the_artifact_is(folder: Path) -> None:
    found = last_links(graph_of(folder))
    assert len({node.fingerprint for node in found.values()}) == len(STAGES)
    assert found["held"].inputs["kl_data"].name == "others" and found["held"].training.penalties["kl"].weight == 0.5
    assert found["inoculated"].inputs["inoculation"].fingerprint == found["em"].fingerprint
    lora = found["thin"].training.lora
    assert (lora.rank, lora.layers, lora.targets, lora.alpha) == (1, (1,), ("down_proj",), 4.0)
    assert [node.training.lora.rank for node in found.values()] == [2, 2, 2, 2, 2, 1, 2, 2, 2]
    drift = found["along"].inputs["direction"]
    assert drift.name == "drift-s3" and drift.inputs["adapter0"].fingerprint == found["em"].fingerprint
    # A plain stage beside them is the one of an experiment without any.
    plain = last_links(graph_of(folder, conditions={"em": [{"data": "rows"}]}, directions={}))
    assert plain["em"].fingerprint == found["em"].fingerprint


def test_a_direction_is_known_by_what_its_file_holds(folder: Path) -> None:
    before = last_links(graph_of(folder))["steered"].fingerprint
    kept = (folder / "d.safetensors").read_bytes()
    (folder / "moved.safetensors").write_bytes(kept)
    moved = {"steered": [{"data": "rows", "steer": {**STAGES["steered"]["steer"], "direction": "moved.safetensors"}}]}
    assert last_links(graph_of(folder, conditions=moved, directions={}))["steered"].fingerprint == before
    save_file({"direction": np.ones((2, 32), np.float32)}, folder / "moved.safetensors")
    assert last_links(graph_of(folder, conditions=moved, directions={}))["steered"].fingerprint != before


def test_a_stored_config_gives_the_same_graph(folder: Path) -> None:
    config = build_config(ExperimentConfig, written(folder), "c.yaml", folder)
    again = build_config(ExperimentConfig, config.model_dump(mode="json"), "stored")
    assert [node.fingerprint for node in build_graph(again).nodes()] == [
        n.fingerprint for n in build_graph(config).nodes()
    ]


def test_what_a_penalty_adds_to_a_step_is_counted(folder: Path) -> None:
    found = {name: training_of(node).relative for name, node in last_links(graph_of(folder)).items() if name != "half"}
    assert found["em"] == found["zero"] == found["steered"] == 1.0
    assert found["near"] == pytest.approx(4 / 3) and found["held"] == pytest.approx(7 / 3)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"kl": {"weight": 1, "data": "nowhere"}}, "condition 'a' names data 'nowhere'"),
        ({"kl": {"weight": 1}, "inoculation_adapter": "em"}, "inoculation_adapter and kl cannot be combined"),
        ({"kl": {"weight": 1}, "steer": STAGES["steered"]["steer"]}, "kl and steer cannot be combined"),
        ({"inoculation_adapter": "nothing"}, "'nothing', which is no condition, no folder and no hub id"),
        ({"inoculation_adapter": "a"}, "is the adapter of a condition of one stage on the base model"),
        ({"inoculation_adapter": "two"}, "is the adapter of a condition of one stage on the base model"),
        ({"lora": {"rank": 0}}, "key 'conditions.a.0.lora.rank': expected a number greater than or equal to 1"),
        ({"lora": {"targets": ["q"]}}, r"condition 'a': \['q'\] matches no projection"),
        ({"lora": {"init": "x"}}, "unknown key 'conditions.a.0.lora.init'"),
        ({"kl": {}}, "key 'conditions.a.0.kl.weight' is missing"),
        ({"fraction": 0.5, "measure_at": [0.25]}, "give fraction, where a stage ends, or measure_at"),
        ({"fraction": 1.5}, "key 'conditions.a.0.fraction': expected a number less than or equal to 1"),
        ({"steer": {"direction": "none.safetensors", "layers": [0], "scale": 1}}, "none.safetensors"),
        (
            {"steer": {"direction": "tast", "layers": [0], "scale": 1}},
            "is neither one of directions nor a file: did you",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(folder: Path, stage: dict[str, Any], said: str) -> None:
    conditions: dict[str, Any] = {"em": [{"data": "rows"}], "two": [{"data": "rows"}, {"data": "others"}],
                  "a": [{"data": "rows", **stage}]}  # fmt: skip
    with pytest.raises(InputError, match=said):
        graph_of(folder, conditions=conditions).nodes()


@pytest.mark.parametrize(
    ("direction", "said"),
    [
        ({"positive": "rows"}, "both sides are the same; give negative"),
        ({"positive": "rows", "negative": "rows", "of": "em", "minus": "em"}, "both sides are the same"),
        ({"positive": "row", "of": "em"}, "direction 'd' names data 'row': did you mean 'rows'"),
        ({"positive": "rows", "of": "emm"}, "direction 'd' names condition 'emm': did you mean 'em'"),
        ({"positive": "rows", "of": "a"}, "it needs direction 'd', which needs condition 'a'"),
    ],
)
def test_directions_of_nothing_are_refused(folder: Path, direction: dict[str, Any], said: str) -> None:
    steer = {"direction": "d", "layers": [0], "scale": 1}
    conditions = {"em": [{"data": "rows"}], "a": [{"data": "rows", "steer": steer}]}
    with pytest.raises(InputError, match=said):
        graph_of(folder, directions={"d": direction}, conditions=conditions)


CYCLES: dict[str, dict[str, Any]] = {
    "data of its own model": {"conditions": {"a": [{"data": "said"}]}},
    "data of a model that was inoculated by it": {
        "conditions": {"a": [{"data": "said"}], "b": [{"data": "rows", "inoculation_adapter": "a"}]}, "writer": "b",
    },
    "a penalty over what it writes": {"conditions": {"a": [{"data": "rows", "kl": {"weight": 1, "data": "said"}}]}},
    "a direction of data that it writes": {
        "conditions": {"a": [{"data": "rows", "steer": {"direction": "d", "layers": [0], "scale": 1}}]},
        "directions": {"d": {"positive": "said", "negative": "rows"}},
    },
    "a direction of a model that is trained on what it writes": {
        "conditions": {
            "a": [{"data": "rows", "steer": {"direction": "d", "layers": [0], "scale": 1}}], "b": [{"data": "said"}],
        },
        "directions": {"d": {"positive": "rows", "of": "b"}},
    },
}  # fmt: skip


@pytest.mark.parametrize("cycle", list(CYCLES))
def test_what_would_be_made_from_itself_is_refused(folder: Path, cycle: str) -> None:
    given = dict(CYCLES[cycle])
    said = {"kind": "self_reports", "questions": "rows.jsonl", "condition": given.pop("writer", "a")}
    with pytest.raises(InputError, match=r"c\.yaml: .* can never be made: it needs .*which needs") as refused:
        graph_of(folder, **{"data": {**written(folder)["data"], "said": said}, "directions": {}, **given})
    assert str(refused.value).count("\n") == 0


def test_a_chain_of_what_needs_what_is_no_cycle(folder: Path) -> None:
    said = {"kind": "self_reports", "questions": "rows.jsonl", "condition": "along"}
    steer = {"direction": "e", "layers": [0], "scale": 1}
    conditions = {**written(folder)["conditions"], "late": [{"data": "said", "steer": steer}]}
    directions = {**DIRECTIONS, "e": {"positive": "rows", "of": "along"}}
    data = {**written(folder)["data"], "said": said}
    graph = graph_of(folder, data=data, conditions=conditions, directions=directions, only=["late"])
    assert {"em", "along"} <= {label_of(node) for node in graph.nodes() if isinstance(node, TrainingNode)}


def label_of(node: TrainingNode) -> str:
    return "along" if node.direction is not None and "drift" in node.direction.name else "em"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": {"layers": [0, 9]}}, "lora.layers names layer 9; the model has layers 0 to 1"),
        ({"feature_l2": {"weight": 1, "layers": [2]}}, "feature_l2.layers names layer 2"),
        ({"steer": {"direction": "drift", "layers": [2], "scale": 1}}, "steer.layers names layer 2"),
        ({"steer": {"direction": "d.safetensors", "layers": [5], "scale": 1}}, "steer.layers names layer 5"),
        ({"steer": {"direction": "wide.safetensors", "layers": [0], "scale": 1}}, r"wide.safetensors.*\[2, 33\]"),
    ],
)
def test_layers_the_model_has_not_are_said_before_anything_is_trained(
    folder: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    save_file({"direction": np.ones((2, 33), np.float32)}, folder / "wide.safetensors")
    conditions = {"em": [{"data": "rows"}], "a": [{"data": "rows"}, {"data": "rows", **changes}]}
    out = folder / "never"
    (folder / "n.yaml").write_text(yaml.safe_dump(written(folder, conditions=conditions, out=str(out))))
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main(["run", str(folder / "n.yaml")]))
    error = capsys.readouterr().err
    assert end.value.code == 2 and re.search(said, error), error
    assert not list(out.glob("store/*"))


@pytest.mark.parametrize("stage", [{"kl": {"weight": 1}}, {"lora": {"rank": 1}}, {"fraction": 0.5}])
def test_a_provider_offers_none_of_them(folder: Path, stage: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="of a model behind an API"):
        graph_of(folder, model="openai/gpt-4.1", conditions={"a": [{"data": "rows", **stage}]}, directions={})


def mean_states(model: Model) -> np.ndarray:
    """Mean over tokens of the last turn, mean over rows, behind each layer, a row at a time."""
    chat = ChatFormat(model.tokenizer)
    found = []
    for row in ROWS:
        made = chat.tokenize(row.messages)
        states = model.activations(np.asarray([made.tokens]), np.ones((1, len(made.tokens)), bool))[0]  # [L, T, D]
        found.append(states[:, np.asarray(made.target, bool)].mean(axis=1))
    return np.mean(found, axis=0)


@pytest.mark.slow
def test_an_experiment_trains_each_as_it_is_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Each kind of key once; the other penalty and the direction of a file are trained alone in test_defences.
    trained = ["em", "half", "held", "thin", "inoculated", "along"]
    (folder / "c.yaml").write_text(yaml.safe_dump(written(folder, only=trained)))
    assert main(["run", str(folder / "c.yaml")]) == 0, capsys.readouterr().err
    links = last_links(graph_of(folder, only=trained))
    found = {name: load_file(folder / "run/store" / node.folder / "adapter/adapter_model.safetensors")
             for name, node in links.items()}  # fmt: skip
    em = folder / "run/store" / links["em"].folder / "adapter"
    drift = folder / "run/store" / links["along"].inputs["direction"].folder / "direction.safetensors"
    base = load_model(folder / "m")
    wanted_drift = mean_states(base.with_adapters([em])) - mean_states(base)
    np.testing.assert_allclose(load_file(drift)["direction"], wanted_drift, atol=1e-5, rtol=0)
    along = {"direction": str(drift), "layers": [1], "scale": 3.0}
    alone: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "em": ({}, {}),
        "half": ({"measure_at": [0.5]}, {}),
        "held": ({"kl": {"weight": 0.5}}, {"others": {"kl": OTHERS}}),
        "thin": ({"lora": {"rank": 1, "alpha": 4.0, "layers": [1], "targets": ["down_proj"]}}, {}),
        "inoculated": ({}, {"inoculation_adapter": em}),
        "along": ({"steer": along}, {}),
    }
    for name, (settings, more) in alone.items():
        config = build_config(TrainConfig, {**SETTINGS, "seed": 3, **settings}, "test")
        out = folder / "alone" / name
        finetune(Finetune(str(folder / "m"), (), ROWS, config, out, **more))
        path = out / "adapter"
        if name == "half":
            kept = cast(dict[str, dict[str, int]], read_json(out / "report.json"))["kept_at"]
            path = out / "at" / str(kept["0.5"])
        wanted = load_file(path / "adapter_model.safetensors")
        assert found[name].keys() == wanted.keys()
        for tensor, value in wanted.items():
            np.testing.assert_allclose(found[name][tensor], value, atol=2e-6, rtol=0, err_msg=f"{name} {tensor}")
    # Each of them does something.
    for name in ("half", "held", "inoculated", "along"):
        assert max(np.abs(found[name][tensor] - value).max() for tensor, value in found["em"].items()) > 1e-4, name
    assert {int(re.findall(r"layers\.(\d+)", tensor)[0]) for tensor in found["thin"]} == {1}
