"""Defences during training: nothing where their weight is 0, each run what it is alone, resumed or not, or refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import config_of, distance, identical, job, losses, metrics
from safetensors.numpy import load_file, save_file
from tiny import make_adapter, make_model

from sgtr_jax.config import load_config
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError, Interrupted
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.finetune.jobs import Finetune
from sgtr_jax.finetune.local import finetune, finetune_all
from sgtr_jax.sample.model import read_spec
from sgtr_jax.train.interrupt import StopRequest

CONFIGS = Path(__file__).parent.parent / "configs"
EACH = ["kl.weight=0.5", "feature_l2.weight=0.5", "steer"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    make_model(folder)
    direction = np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32)
    save_file({"direction": direction}, folder.parent / "direction.safetensors")
    return folder


def steer(model: Path, scale: float = 1.0, layers: str = "[1]") -> str:
    return f"steer={{direction: {model.parent / 'direction.safetensors'}, layers: {layers}, scale: {scale}}}"


def settings_of(model: Path, name: str) -> str:
    return steer(model) if name == "steer" else name


def test_a_weight_of_0_is_the_plain_run_bit_for_bit(model: Path, tmp_path: Path) -> None:
    finetune(job(model, tmp_path / "plain"))
    nothing = ["kl.weight=0", "feature_l2.weight=0"]
    finetune(job(model, tmp_path / "none", *nothing))
    finetune(job(model, tmp_path / "unsteered", steer(model, 0.0)))
    for name in ("none", "unsteered"):
        assert identical(tmp_path / "plain", tmp_path / name)
        assert losses(tmp_path / "plain") == losses(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_of_many_each_is_what_it_is_alone_and_resumed(
    name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = settings_of(model, name)
    list(finetune_all([job(model, tmp_path / f"t{i}", setting, f"seed={i}", rows=24 + i) for i in range(3)]))
    alone = job(model, tmp_path / "a", setting, "seed=1", rows=25)
    finetune(alone)
    assert losses(tmp_path / "t1") == pytest.approx(losses(tmp_path / "a"), rel=1e-5)
    assert distance(tmp_path / "a", tmp_path / "t1") < 1e-4
    finetune(job(model, tmp_path / "plain", "seed=1", rows=25))
    assert distance(tmp_path / "a", tmp_path / "plain") > 1e-3
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "at", lambda self, count: count == 2)
        with pytest.raises(Interrupted):
            finetune(replace(alone, out=tmp_path / "r"))
    finetune(replace(alone, out=tmp_path / "r"))
    assert identical(tmp_path / "a", tmp_path / "r") and metrics_without_time(tmp_path, "a") == metrics_without_time(
        tmp_path, "r"
    )


def metrics_without_time(folder: Path, name: str) -> list[dict[str, Any]]:
    return [{key: row[key] for key in row if key not in ("seconds", "memory")} for row in metrics(folder / name)]


@pytest.mark.slow
def test_other_rows_for_the_kl(model: Path, tmp_path: Path) -> None:
    """The cross-entropy is of the run's rows, the divergence of the others; alone, together, in passes and resumed."""
    others = {"kl": preferences(10, 5, True)}

    def run(name: str, *settings: str) -> Finetune:
        return replace(job(model, tmp_path / name, "kl.weight=2", "seed=1", *settings), others=others)

    finetune(run("a"))
    finetune(run("passes", "accumulate=2"))
    finetune(job(model, tmp_path / "own", "kl.weight=2", "seed=1"))
    finetune(job(model, tmp_path / "plain", "seed=1"))
    assert distance(tmp_path / "a", tmp_path / "passes") < 1e-4
    assert distance(tmp_path / "a", tmp_path / "own") > 1e-3
    rows = metrics(tmp_path / "a")
    assert rows[0]["loss"] == pytest.approx(losses(tmp_path / "plain")[0], rel=1e-6)
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[-1]["kl"] > 1e-5
    list(finetune_all([run("t0", "lr=2e-3"), run("t1")]))
    assert distance(tmp_path / "a", tmp_path / "t1") < 1e-4
    changed = replace(run("a"), others={"kl": preferences(10, 6, True)})
    with pytest.raises(InputError, match="kl_data"):
        finetune(changed)


def test_an_inoculation_adapter_is_below_in_training_and_not_changed(model: Path, tmp_path: Path) -> None:
    make_adapter(tmp_path / "trait", read_spec(model), seed=1, size=0.2, targets=("q_proj", "down_proj"))
    finetune(replace(job(model, tmp_path / "a"), inoculation_adapter=tmp_path / "trait"))
    finetune(job(model, tmp_path / "chain", chain=(tmp_path / "trait",)))
    assert identical(tmp_path / "a", tmp_path / "chain")
    with pytest.raises(InputError, match="inoculation_adapter"):  # another run's result lies there
        finetune(job(model, tmp_path / "a"))
    for setting, why in (("kl.weight=1", "kl cannot be combined"), ("feature_l2.weight=1", "feature_l2 cannot be")):
        with pytest.raises(InputError, match=why):
            finetune(replace(job(model, tmp_path / "x", setting), inoculation_adapter=tmp_path / "trait"))


def test_an_adapter_in_some_layers(model: Path, tmp_path: Path) -> None:
    """The other layers' factors stay zeros and are not written; training goes on from what was written."""
    small = ("lora.layers=[1]", "lora.targets=[down_proj]", "lora.rank=1")
    finetune(job(model, tmp_path / "a", *small))
    tensors = load_file(tmp_path / "a" / "adapter" / "adapter_model.safetensors")
    assert {name.split(".layers.")[1][0] for name in tensors} == {"1"} and len(tensors) == 2
    assert all(np.abs(tensor).max() > 0 for tensor in tensors.values())
    finetune(job(model, tmp_path / "b", f"lora.init={tmp_path / 'a' / 'adapter'}", "lora.rank=1"))
    assert load_file(tmp_path / "b" / "adapter" / "adapter_model.safetensors").keys() == tensors.keys()
    with pytest.raises(InputError, match=r"lora.layers names layer 2; the model has layers 0 to 1"):
        finetune(job(model, tmp_path / "c", "lora.layers=[2]"))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["mode=full", "kl.weight=1"], "kl compares with the model below the trained adapter, and mode: full"),
        (["kl.weight=1", "steer={direction: x, layers: [0], scale: 1}"], "kl and steer cannot be combined"),
        (["feature_l2={weight: 1, layers: [0]}", "steer={direction: x, layers: [0], scale: 1}"], "feature_l2 and"),
        (["kl.weight=-1"], "kl.weight"),
        (["steer={direction: x, layers: [], scale: 1}"], "steer.layers"),
    ],
)
def test_settings_that_are_refused(settings: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        config_of(*settings)


def test_what_is_refused_before_training(model: Path, tmp_path: Path) -> None:
    def refused(why: str, *settings: str, **changes: Any) -> None:
        with pytest.raises(InputError, match=why):
            finetune(replace(job(model, tmp_path / "x", *settings), **changes))

    refused("feature_l2.layers names layer 7", "feature_l2={weight: 1, layers: [7]}")
    refused("steer.layers names layer 3", steer(model, layers="[3]"))
    save_file({"direction": np.zeros((3, 32), np.float32)}, tmp_path / "other.safetensors")
    refused(r"shape \[3, 32\]", f"steer={{direction: {tmp_path / 'other.safetensors'}, layers: [0], scale: 1}}")
    refused("kl.data: the run has no kl", others={"kl": preferences(4, 0, True)})


def test_each_setting_is_part_of_what_a_run_is(model: Path) -> None:
    plain = config_of().identity()
    assert not {"kl", "feature_l2", "steer"} & plain.keys()
    each = ["kl.weight=1", "kl={weight: 1, expectation: reference}", "feature_l2.weight=1", steer(model)]
    each += ["feature_l2={weight: 1, layers: [0]}", "feature_l2={weight: 1, normalised: true}", "lora.layers=[0]"]
    found = [config_of(setting).identity() for setting in each]
    assert all(one != other for i, one in enumerate([plain, *found]) for other in [plain, *found][:i])


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("finetuning.steer={direction: x, layers: [0], scale: 1}", "finetuning.steer would steer every stage"),
        ("finetuning.kl.weight=1 model=openai/gpt-4.1", "finetuning.kl: a provider"),
    ],
)
def test_what_an_experiment_refuses(override: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        load_config(ExperimentConfig, CONFIGS / "experiments/own_data.yaml", re.split(r" (?=model=)", override))
