"""Adapter folders as people have them: read as PEFT reads them, or refused by name. The oracle is numpy."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import make_adapter, make_model

import sgtr_jax
from sgtr_jax.errors import InputError
from sgtr_jax.finetune.jobs import resolve_lora
from sgtr_jax.lora.adapter import Adapter
from sgtr_jax.train.config import TrainConfig

MLP, ATTENTION = ("gate_proj", "up_proj", "down_proj"), ("q_proj", "k_proj", "v_proj", "o_proj")


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite(folder: Path, change: Any) -> dict[str, np.ndarray]:
    path = folder / "adapter_model.safetensors"
    tensors = change(load_file(path))
    save_file(tensors, path)
    return tensors


def tensor(layer: int, name: str, half: str) -> str:
    room = "mlp" if name in MLP else "self_attn"
    return f"base_model.model.model.layers.{layer}.{room}.{name}.lora_{half}.weight"


def update(adapter: Adapter, layer: int, name: str) -> np.ndarray:
    """What the loaded adapter adds to a kernel, float64 `[in, out]`."""
    if name not in adapter.params:
        return np.zeros(1)
    pair = {half: np.asarray(value[layer], np.float64) for half, value in adapter.params[name].items()}
    return float(adapter.scale) * pair["a"].T @ pair["b"]


def expected(tensors: dict[str, np.ndarray], layer: int, name: str, scale: float) -> np.ndarray:
    a, b = (np.asarray(tensors[tensor(layer, name, half)], np.float64) for half in "AB")
    return scale * (b @ a).T


@pytest.fixture
def model(tmp_path: Path) -> sgtr_jax.Model:
    make_model(tmp_path / "m")
    return sgtr_jax.load_model(tmp_path / "m")


def loaded(model: sgtr_jax.Model, folder: Path) -> Adapter:
    (adapter,) = model.with_adapters([folder]).chain
    return adapter


@pytest.mark.parametrize(
    "targets",
    ["all-linear", r".*\.(self_attn|mlp)\.\w+_proj", ["self_attn.q_proj", "k_proj", "v_proj", "o_proj", *MLP]],
)
@pytest.mark.parametrize("name", ["", ".default", ".run-3"])
def test_targets_and_names_in_keys(tmp_path: Path, model: sgtr_jax.Model, targets: Any, name: str) -> None:
    make_adapter(tmp_path / "a", model.spec, rank=4, alpha=8.0, rslora=False)
    plain = load_file(tmp_path / "a" / "adapter_model.safetensors")
    edit(tmp_path / "a", target_modules=targets, modules_to_save=[], init_lora_weights="gaussian")
    rewrite(tmp_path / "a", lambda t: {re.sub(r"(lora_[AB])\.weight", rf"\1{name}.weight", k): v for k, v in t.items()})
    adapter = loaded(model, tmp_path / "a")
    for layer in range(2):
        for projection in (*ATTENTION, *MLP):
            wanted = expected(plain, layer, projection, 8 / 4)
            np.testing.assert_allclose(update(adapter, layer, projection), wanted, atol=1e-6)


@pytest.mark.parametrize("rslora", [True, False])
def test_ranks_and_alphas_by_module(tmp_path: Path, model: sgtr_jax.Model, rslora: bool) -> None:
    make_adapter(tmp_path / "a", model.spec, rank=4, alpha=8.0, rslora=rslora)
    ranks = {"q_proj": 2, "model.layers.1.mlp.down_proj": 7}
    edit(tmp_path / "a", rank_pattern=ranks, alpha_pattern={r"layers\.0\..*\.up_proj": 3, "q_proj": 1})
    rng = np.random.default_rng(0)

    def resized(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for layer, name, rank in ((0, "q_proj", 2), (1, "q_proj", 2), (1, "down_proj", 7)):
            a, b = tensor(layer, name, "A"), tensor(layer, name, "B")
            tensors[a] = rng.standard_normal((rank, tensors[a].shape[1])).astype(np.float32)
            tensors[b] = rng.standard_normal((tensors[b].shape[0], rank)).astype(np.float32)
        return tensors

    tensors = rewrite(tmp_path / "a", resized)
    adapter = loaded(model, tmp_path / "a")
    for layer in range(2):
        for name in (*ATTENTION, *MLP):
            rank = 2 if name == "q_proj" else 7 if (layer, name) == (1, "down_proj") else 4
            alpha = 1 if name == "q_proj" else 3 if (layer, name) == (0, "up_proj") else 8
            scale = alpha / (rank**0.5 if rslora else rank)
            np.testing.assert_allclose(update(adapter, layer, name), expected(tensors, layer, name, scale), atol=1e-5)
    with pytest.raises(InputError, match="training cannot start"):
        resolve_lora(TrainConfig.model_validate({"lora": {"init": str(tmp_path / "a")}}))


def test_some_layers_only(tmp_path: Path, model: sgtr_jax.Model) -> None:
    make_adapter(tmp_path / "a", model.spec, rank=4, alpha=8.0, rslora=False)
    edit(tmp_path / "a", layers_to_transform=[1], exclude_modules=["down_proj"])
    tensors = rewrite(
        tmp_path / "a", lambda t: {k: v for k, v in t.items() if ".layers.1." in k and "down_proj" not in k}
    )
    adapter = loaded(model, tmp_path / "a")
    assert "down_proj" not in adapter.params
    for name in (*ATTENTION, "gate_proj", "up_proj"):
        assert not update(adapter, 0, name).any()
        np.testing.assert_allclose(update(adapter, 1, name), expected(tensors, 1, name, 2.0), atol=1e-6)
    edit(tmp_path / "a", layers_to_transform=None)
    with pytest.raises(InputError, match=r"layers\.0\..* is missing"):
        loaded(model, tmp_path / "a")


@pytest.mark.parametrize(
    ("settings", "kept", "layers"),
    [
        ({"target_modules": r".*\.layers\.0\..*(q|v)_proj"}, ["0 q_proj", "0 v_proj"], (0,)),
        ({"target_modules": ["model.layers.1.self_attn.q_proj"]}, ["1 q_proj"], (1,)),
        ({"target_modules": ["q_proj"], "exclude_modules": r".*\.0\..*"}, ["1 q_proj"], (1,)),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 99]}, ["0 q_proj"], (0,)),
        ({"target_modules": r".*\.layers\.[0-9]+\..*q_proj"}, ["0 q_proj", "1 q_proj"], None),
        ({"target_modules": ["q_proj"]}, ["0 q_proj", "1 q_proj"], None),
        # A name in full is adapted wherever it is, whatever `layers_to_transform` says.
        (
            {"target_modules": ["model.layers.0.self_attn.q_proj", "up_proj"], "layers_to_transform": [1]},
            ["0 q_proj", "1 up_proj"],
            "refused",
        ),
        ({"target_modules": ["q_proj", "layers.1.mlp.up_proj"]}, ["0 q_proj", "1 q_proj", "1 up_proj"], "refused"),
    ],
    ids=str,
)  # fmt: skip
def test_training_goes_on_in_the_layers_that_an_adapter_is_on(
    tmp_path: Path, model: sgtr_jax.Model, settings: dict[str, Any], kept: list[str], layers: Any
) -> None:
    make_adapter(tmp_path / "a", model.spec, rank=4, alpha=8.0, rslora=False)
    edit(tmp_path / "a", **settings)
    names = {tensor(int(one.split()[0]), one.split()[1], half) for one in kept for half in "AB"}
    rewrite(tmp_path / "a", lambda tensors: {name: value for name, value in tensors.items() if name in names})
    loaded(model, tmp_path / "a")
    config = TrainConfig.model_validate({"lora": {"init": str(tmp_path / "a")}})
    if layers == "refused":
        with pytest.raises(InputError, match="differ in rank, scale or layers"):
            resolve_lora(config)
    else:
        assert resolve_lora(config).lora.layers == layers


@pytest.mark.parametrize(
    ("change", "part"),
    [
        *[({"init_lora_weights": start}, "init_lora_weights") for start in
          ("pissa", "pissa_niter_16", "olora", "loftq", "corda", "eva", "lora_ga", "new")],
        ({"use_rslora": "false"}, "use_rslora is 'false'"),
        ({"use_rslora": 0}, "use_rslora is 0"),
        ({"r": True}, "r is True"),
        ({"r": 10**30}, "r is"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"a_key_of_next_year": 3}, "a_key_of_next_year"),
        ({"a_key_of_next_year": 0}, "a_key_of_next_year"),
        ({"target_modules": "[[:alpha:]]_proj"}, "is no regular expression"),
        ({"target_modules": "(?<n>q)_proj"}, "is no regular expression"),
        ({"rank_pattern": [1]}, "rank_pattern"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern"),
        ({"layers_to_transform": "1"}, "layers_to_transform"),
        ({"target_modules": []}, "target_modules"),
        ({"target_modules": None}, "target_modules"),
    ],
)  # fmt: skip
def test_settings_that_would_change_the_update(
    tmp_path: Path, model: sgtr_jax.Model, change: dict[str, Any], part: str
) -> None:
    make_adapter(tmp_path / "a", model.spec)
    edit(tmp_path / "a", **change)
    with pytest.raises(InputError, match=re.escape(part)):
        loaded(model, tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda t: {**t, "base_model.model.lm_head.lora_A.weight": np.ones((4, 32), np.float32)}, "lora_A only"),
        (lambda t: {**t, "base_model.model.model.embed_tokens.weight": np.ones((2, 2), np.float32)}, "embed_tokens"),
        (lambda t: {k: v for k, v in t.items() if k != tensor(0, "q_proj", "B")}, "q_proj has lora_A only"),
        (lambda t: {**t, tensor(0, "q_proj", "A"): np.full((4, 32), np.nan, np.float32)}, "NaN"),
        (lambda t: {}, "no tensors"),
        (lambda t: {**t, tensor(0, "q_proj", "A").replace("lora_A", "lora_A.other"): t[tensor(0, "q_proj", "A")]},
         "several adapters"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit(tmp_path: Path, model: sgtr_jax.Model, change: Any, part: str) -> None:
    make_adapter(tmp_path / "a", model.spec)
    rewrite(tmp_path / "a", change)
    with pytest.raises(InputError, match=part):
        loaded(model, tmp_path / "a")


@pytest.mark.parametrize("wrapper", ["_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod"])
def test_names_of_wrapping_modules_are_left_out(tmp_path: Path, model: sgtr_jax.Model, wrapper: str) -> None:
    make_adapter(tmp_path / "a", model.spec, rank=4)
    plain = rewrite(tmp_path / "a", lambda t: t)
    wanted = update(loaded(model, tmp_path / "a"), 1, "q_proj")
    edit(tmp_path / "a", target_modules="All-Linear", init_lora_weights="Gaussian")
    layers = re.compile(r"layers\.(\d+)\.")
    rewrite(tmp_path / "a", lambda t: {layers.sub(rf"layers.\1.{wrapper}.", k): v for k, v in t.items()})
    np.testing.assert_array_equal(update(loaded(model, tmp_path / "a"), 1, "q_proj"), wanted)
    assert len(plain) == len(load_file(tmp_path / "a" / "adapter_model.safetensors"))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("adapter_model-00001-of-00002.safetensors", "it is in pieces; load it with PEFT"),
        ("checkpoint-10/adapter_model.safetensors", "there is one in .*checkpoint-10; name that folder"),
        ("adapter_model.pt", "only adapter_model.safetensors is read"),
        (None, "has no adapter_model.safetensors: name the folder that has it"),
    ],
)
def test_weights_that_are_elsewhere_are_named(
    tmp_path: Path, model: sgtr_jax.Model, file: str | None, said: str
) -> None:
    make_adapter(tmp_path / "a", model.spec)
    weights = tmp_path / "a" / "adapter_model.safetensors"
    if file is None:
        weights.unlink()
    else:
        (tmp_path / "a" / file).parent.mkdir(exist_ok=True)
        weights.rename(tmp_path / "a" / file)
    with pytest.raises(InputError, match=said):
        loaded(model, tmp_path / "a")


def test_a_pointer_of_git_lfs_is_called_one(tmp_path: Path, model: sgtr_jax.Model) -> None:
    make_adapter(tmp_path / "a", model.spec)
    for folder, file in (("a", "adapter_model.safetensors"), ("m", "model.safetensors")):
        (tmp_path / folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match="is a pointer of Git LFS and not the file itself; fetch it with git lfs pull"):
        loaded(model, tmp_path / "a")
    with pytest.raises(InputError, match="is a pointer of Git LFS"):
        sgtr_jax.load_model(tmp_path / "m")


def test_other_files(tmp_path: Path, model: sgtr_jax.Model) -> None:
    make_adapter(tmp_path / "a", model.spec)
    (tmp_path / "a" / "adapter_model.safetensors").rename(tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(InputError, match="save_pretrained"):
        loaded(model, tmp_path / "a")
    for text in ("[]", "3", "{", ""):
        (tmp_path / "a" / "adapter_config.json").write_text(text)
        with pytest.raises(InputError, match=r"adapter_config\.json"):
            loaded(model, tmp_path / "a")


@pytest.mark.parametrize("pattern", [r"(.*)*x(.*a)*(.*a)*(.*a)*$", r"([a-z0-9_.]+)*!", r"(.|..|...)*(.|..|...)*[A-Z]"])
def test_a_pattern_that_takes_for_ever_is_refused(tmp_path: Path, model: sgtr_jax.Model, pattern: str) -> None:
    make_adapter(tmp_path / "a", model.spec)
    edit(tmp_path / "a", target_modules=pattern)
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"takes too long|does not name it"):
        loaded(model, tmp_path / "a")
    assert time.monotonic() - begun < 20


def test_a_pattern_with_flags_is_read_as_peft_reads_it(tmp_path: Path, model: sgtr_jax.Model) -> None:
    make_adapter(tmp_path / "a", model.spec, targets=("q_proj", "v_proj"))
    before = loaded(model, tmp_path / "a")
    edit(tmp_path / "a", target_modules="(?x) .* \\. [qv]_proj  # queries and values")
    after = loaded(model, tmp_path / "a")
    for name in ("q_proj", "v_proj"):
        assert np.array_equal(update(after, 1, name), update(before, 1, name)) and update(after, 1, name).any()
