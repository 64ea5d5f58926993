"""Finetuning: schedules, accumulation, sharding, reruns, and what happens when it goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from runs import jsonl
from safetensors.numpy import load_file, save_file
from tiny import SEED, make_adapter, make_model

import sgtr_jax
from sgtr_jax.config import apply_overrides, build_config
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.finetune.jobs import Finetune
from sgtr_jax.finetune.local import finetune
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.optimizer import learning_rate

FAST = ["dtype=float32", "remat=none", "lora.rank=4", "batch_examples=8", "lr=1e-2"]


def config_of(*overrides: str) -> TrainConfig:
    return build_config(TrainConfig, apply_overrides({}, [*FAST, *overrides]), "test")


def run(out: Path, model: Path, *overrides: str, chain: tuple[Path, ...] = (), rows: int = 16) -> list[dict[str, Any]]:
    finetune(Finetune(str(model), chain, preferences(rows, 0, False), config_of(*overrides), out))
    return jsonl(out / "metrics.jsonl")


def weights(out: Path) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = load_file(out / "adapter" / "adapter_model.safetensors")
    return tensors


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rel: float) -> None:
    assert a.keys() == b.keys()
    error = sum(float(((a[k] - b[k]) ** 2).sum()) for k in a) ** 0.5
    assert error < rel * sum(float((a[k] ** 2).sum()) for k in a) ** 0.5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    make_model(folder)
    return folder


def test_schedules_are_those_of_hf() -> None:
    def rates(steps: int, at: tuple[int, ...], *overrides: str) -> list[float]:
        config = config_of("lr=1.0", *overrides)
        return [round(float(learning_rate(config, jnp.float32(1.0), jnp.int32(t), jnp.int32(steps))), 4) for t in at]

    assert rates(15, (0, 1, 5, 10, 15), "warmup_steps=5") == [0.0, 0.2, 1.0, 0.5, 0.0]
    assert rates(10, (0, 5, 10), "warmup_steps=0", "schedule=cosine") == [1.0, 0.5, 0.0]
    assert rates(10, (0, 1, 2, 9), "warmup_steps=2", "schedule=constant") == [0.0, 0.5, 1.0, 1.0]


def test_a_run_learns_logs_every_step_and_leaves_the_base_alone(model: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    rows = run(tmp_path / "out", model, "epochs=4", "warmup_steps=3", rows=40)
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert rows[0]["lr"] == 0.0 and rows[0].keys() >= {"step", "loss", "lr", "grad_norm", "tokens"}
    assert np.mean([r["loss"] for r in rows[-5:]]) < 0.7 * rows[0]["loss"]
    assert before == {path.name: path.read_bytes() for path in model.iterdir()}
    trained = sgtr_jax.load_model(model).with_adapters([tmp_path / "out" / "adapter"])
    assert np.abs(trained.logits([[5, 6, 7]]) - sgtr_jax.load_model(model).logits([[5, 6, 7]])).max() > 1e-3


def test_the_same_seed_gives_the_same_adapter_and_another_does_not(model: Path, tmp_path: Path) -> None:
    run(tmp_path / "a", model, "seed=1")
    run(tmp_path / "b", model, "seed=1")
    run(tmp_path / "c", model, "seed=2")
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all((a[k] == b[k]).all() for k in a)
    assert any((a[k] != c[k]).any() for k in a)


def test_accumulation_and_remat_change_memory_only(model: Path, tmp_path: Path) -> None:
    plain = run(tmp_path / "a", model)
    split = run(tmp_path / "b", model, "accumulate=2", "remat=full")
    assert [r["loss"] for r in split] == pytest.approx([r["loss"] for r in plain], rel=1e-4)
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"), 1e-4)


@pytest.mark.parametrize(
    "mesh",
    [
        "{replica: 2, fsdp: 2, tensor: 2}",
        "{fsdp: 8}",
        *(pytest.param(mesh, marks=pytest.mark.slow) for mesh in (
            "{fsdp: 4, tensor: 2}", "{replica: 2, fsdp: 4}", "{replica: 4, fsdp: 2}", "{replica: 8, fsdp: 1}",
            "{replica: 4, fsdp: 1, tensor: 2}",
        )),
    ],
)  # fmt: skip
def test_sharded_training_equals_one_device(tmp_path: Path, model: Path, mesh: str) -> None:
    alone = run(tmp_path / "a", model)
    sharded = run(tmp_path / "b", model, f"mesh={mesh}")
    assert [r["loss"] for r in sharded] == pytest.approx([r["loss"] for r in alone], rel=1e-4)
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"), 1e-4)


def test_a_chain_below_is_frozen_and_felt(tmp_path: Path, model: Path) -> None:
    spec = sgtr_jax.load_model(model).spec
    make_adapter(tmp_path / "below", spec, size=0.3)
    before = (tmp_path / "below" / "adapter_model.safetensors").read_bytes()
    alone = run(tmp_path / "a", model)
    above = run(tmp_path / "b", model, chain=(tmp_path / "below",))
    assert above[0]["loss"] != pytest.approx(alone[0]["loss"], rel=1e-3)
    assert (tmp_path / "below" / "adapter_model.safetensors").read_bytes() == before
    # What was trained acts on base + below: the first step's loss is that chain's own.
    start = run(tmp_path / "c", model, f"lora.init={tmp_path / 'below'}", "lora.rank=4", "lora.alpha=8.0")
    assert start[0]["loss"] == pytest.approx(above[0]["loss"], rel=1e-5)


def test_dropout_is_drawn_from_the_seed_and_off_when_sampling(tmp_path: Path) -> None:
    make_model(tmp_path / "m", SEED, residual_dropout=0.1, attention_dropout=0.1)
    a = run(tmp_path / "a", tmp_path / "m", "lora.dropout=0.2")
    b = run(tmp_path / "b", tmp_path / "m", "lora.dropout=0.2")
    c = run(tmp_path / "c", tmp_path / "m", "residual_dropout=0", "attention_dropout=0")
    assert [r["loss"] for r in a] == [r["loss"] for r in b]
    assert a[0]["loss"] != c[0]["loss"]
    # Sampling is that of the same weights under a config without dropout.
    make_model(tmp_path / "without", SEED)
    model, without = (sgtr_jax.load_model(tmp_path / name) for name in ("m", "without"))
    np.testing.assert_array_equal(model.logits([[3, 4]]), without.logits([[3, 4]]))


def test_full_mode_trains_a_model_folder(model: Path, tmp_path: Path) -> None:
    rows = run(tmp_path / "o", model, "mode=full", "lr=3e-3", "epochs=8")
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    trained = sgtr_jax.load_model(tmp_path / "o" / "model")
    assert trained.tokenizer is not None
    assert np.abs(trained.logits([[5]]) - sgtr_jax.load_model(model).logits([[5]])).max() > 0.01
    with pytest.raises(InputError, match="cannot be combined"):
        run(tmp_path / "p", model, "mode=full", chain=(tmp_path / "x",))


def test_a_non_finite_loss_stops_with_step_batch_and_last_good_state(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    with pytest.raises(RunError) as caught:
        # So high a rate, unclipped, that the weights overflow within a few steps.
        run(tmp_path / "o", tmp_path / "m", "lr=1e30", "max_grad_norm=1e30", "warmup_steps=0", "epochs=3")
    text = str(caught.value)
    assert "step " in text and "preference-" in text and "last_good" in text
    step = int(text.split("step ")[1].split(":")[0])
    assert len(jsonl(tmp_path / "o" / "metrics.jsonl")) == step - 1
    kept = load_file(tmp_path / "o" / "last_good" / "adapter_model.safetensors")
    assert all(np.isfinite(value).all() for value in kept.values())
    assert not (tmp_path / "o" / "adapter").exists()


def test_weights_that_overflow_stop_at_the_first_step(tmp_path: Path) -> None:
    """Weights that are no numbers are refused before it; finite ones may still give a loss that is none."""
    make_model(tmp_path / "m")
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    for value, error, part in ((np.nan, InputError, "NaN"), (3e38, RunError, "step 1: the loss is (nan|inf)")):
        tensors["model.norm.weight"][:] = value
        save_file(tensors, tmp_path / "m" / "model.safetensors", {"format": "pt"})
        with pytest.raises(error, match=part):
            run(tmp_path / "o", tmp_path / "m")


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["max_length=8"], "longer than max_length=8"),
        (["mesh.tensor=3"], "Shapes"),
        (["mesh={fsdp: 2, tensor: 4}"], "key-value heads (2) over tensor=4"),
        (["lora.init=/nowhere"], "PEFT adapter folder"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    tmp_path: Path, model: Path, overrides: list[str], part: str
) -> None:
    with pytest.raises(InputError) as caught:
        run(tmp_path / "o", model, *overrides)
    assert part in str(caught.value)
    assert not list(tmp_path.glob("o/*"))


def test_lora_init_of_another_rank_than_asked_for(tmp_path: Path, model: Path) -> None:
    make_adapter(tmp_path / "a", sgtr_jax.load_model(model).spec, rank=2)
    with pytest.raises(InputError, match=r"lora\.rank=4, but the adapter .* has 2"):
        run(tmp_path / "o", model, f"lora.init={tmp_path / 'a'}")
