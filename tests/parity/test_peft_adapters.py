"""Adapters that PEFT itself wrote, with every setting that moves or resizes them: logits to 1e-5, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

import hf_models

import sgtr_jax
from sgtr_jax.errors import InputError
from sgtr_jax.sample.export import export, export_as_adapter

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOKENS = np.random.default_rng(0).integers(0, 97, (2, 11))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    hf_models.make("qwen2-gqa4", path)
    return path


@pytest.fixture(scope="module")
def ours(folder: Path) -> sgtr_jax.Model:
    return sgtr_jax.load_model(folder)


def base_of(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model(input_ids=torch.tensor(TOKENS)).logits.numpy())


def disturb(model: Any, size: float) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name or "trainable_tokens_delta" in name:
                parameter.add_(size * torch.randn_like(parameter))


def adapted(folder: Path, **settings: Any) -> Any:
    config = peft.LoraConfig(**{"r": 6, "lora_alpha": 10, "task_type": "CAUSAL_LM", "target_modules": ALL, **settings})
    model = peft.get_peft_model(base_of(folder), config).eval()
    disturb(model, 0.2)
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {"rank_pattern": {"q_proj": 2, "^model.layers.1.mlp.down_proj": 7, "mlp.up_proj": 1}},
        {"use_rslora": True, "alpha_pattern": {"layers.0.self_attn.v_proj": 3, r".*\.2\..*k_proj": 5}},
        {"use_rslora": True, "alpha_pattern": {"v_proj": 3}, "rank_pattern": {"v_proj": 16}},
        {"rank_pattern": {"proj": 3, "q": 2}},  # names of nothing
        {"rank_pattern": {"layers.1.self_attn.q_proj": 3, "q_proj": 5}},  # the first one that fits
        {"rank_pattern": {"q_proj|k_proj": 3}, "alpha_pattern": {"q_proj|layers.0.mlp.up_proj": 3}},
        {"layers_to_transform": 0},
        {"layers_to_transform": [0, 2], "layers_pattern": ["h", "layers"]},
        {"layers_to_transform": [0, 99], "layers_pattern": "model.layers"},
        {"layers_to_transform": []},
        {"exclude_modules": ["down_proj", "layers.0.self_attn.q_proj"]},
        {"exclude_modules": r".*\.1\..*"},
        {"target_modules": r".*\.(0|2)\..*(q_proj|up_proj)"},
        {"target_modules": "all-linear"},
        {"target_modules": ["model.layers.0.self_attn.q_proj", "model.layers.2.mlp.up_proj"]},
        {"target_modules": ["model.layers.0.self_attn.q_proj", "up_proj"], "layers_to_transform": [1]},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": False},
        {"ensure_weight_tying": True},
    ],
    ids=str,
)
def test_settings_that_are_read(folder: Path, ours: sgtr_jax.Model, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapted(folder, **settings).save_pretrained(tmp_path / "a")
    wanted = logits(peft.PeftModel.from_pretrained(base_of(folder), tmp_path / "a").eval())
    assert np.abs(wanted - logits(base_of(folder))).max() > 0.01
    np.testing.assert_allclose(ours.with_adapters([tmp_path / "a"]).logits(TOKENS), wanted, atol=2e-5, rtol=0)
    # What is written from it is one rank everywhere, and acts the same in PEFT.
    export(str(folder), [tmp_path / "a"], tmp_path / "again", merged=False)
    back = peft.PeftModel.from_pretrained(base_of(folder), tmp_path / "again").eval()
    np.testing.assert_allclose(logits(back), wanted, atol=2e-5, rtol=0)


def test_chains_of_different_ranks_act_one_after_the_other(folder: Path, ours: sgtr_jax.Model, tmp_path: Path) -> None:
    first = adapted(folder, rank_pattern={"q_proj": 2}, layers_to_transform=[0])
    first.save_pretrained(tmp_path / "a")
    merged = first.merge_and_unload()
    config = peft.LoraConfig(r=9, lora_alpha=4, task_type="CAUSAL_LM", target_modules=["v_proj", "q_proj"])
    second = peft.get_peft_model(merged, config).eval()
    disturb(second, 0.2)
    second.save_pretrained(tmp_path / "b")
    found = ours.with_adapters([tmp_path / "a", tmp_path / "b"]).logits(TOKENS)
    np.testing.assert_allclose(found, logits(second), atol=3e-5, rtol=0)
    export(str(folder), [tmp_path / "a", tmp_path / "b"], tmp_path / "merged", merged=True)
    np.testing.assert_allclose(logits(base_of(tmp_path / "merged")), logits(second), atol=3e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_stored_in_another_dtype(folder: Path, ours: sgtr_jax.Model, tmp_path: Path, dtype: Any) -> None:
    model = adapted(folder)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    model.save_pretrained(tmp_path / "a")
    wanted = logits(peft.PeftModel.from_pretrained(base_of(folder), tmp_path / "a").eval())
    np.testing.assert_allclose(ours.with_adapters([tmp_path / "a"]).logits(TOKENS), wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
@pytest.mark.parametrize("rslora", [False, True])
def test_starts_that_change_the_base(
    folder: Path, ours: sgtr_jax.Model, tmp_path: Path, start: str, rslora: bool
) -> None:
    """As they are: refused. Converted by PEFT: read."""
    config = peft.LoraConfig(
        r=6, lora_alpha=10, task_type="CAUSAL_LM", target_modules=ALL, init_lora_weights=start, use_rslora=rslora
    )
    model = peft.get_peft_model(base_of(folder), config).eval()
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = start
    disturb(model, 0.1)
    wanted = logits(model)
    model.save_pretrained(tmp_path / "a")
    with pytest.raises(InputError, match="init_lora_weights"):
        ours.with_adapters([tmp_path / "a"])
    model.save_pretrained(tmp_path / "c", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    assert json.loads((tmp_path / "c" / "adapter_config.json").read_text())["init_lora_weights"] is True
    found = ours.with_adapters([tmp_path / "c"]).logits(TOKENS)
    # PEFT's own reading of what it wrote: converting twice the weights' size into a difference rounds, in PEFT.
    again = logits(peft.PeftModel.from_pretrained(base_of(folder), tmp_path / "c").eval())
    np.testing.assert_allclose(found, again, atol=2e-5, rtol=0)
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True}, {"lora_bias": True}, {"bias": "all"}, {"bias": "lora_only"},
        {"modules_to_save": ["lm_head"]}, {"modules_to_save": ["embed_tokens"]}, {"trainable_token_indices": [1, 2]},
        {"target_modules": ["q_proj", "embed_tokens"]}, {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "target_parameters": ["mlp.up_proj.weight"]},
        {"alora_invocation_tokens": [3, 4]}, {"init_lora_weights": "mica"}, {"layer_replication": [(0, 2), (1, 3)]},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_are_refused(
    folder: Path, ours: sgtr_jax.Model, tmp_path: Path, settings: dict[str, Any]
) -> None:
    adapted(folder, **settings).save_pretrained(tmp_path / "a")
    with pytest.raises(InputError, match=r"adapter_config\.json|adapter_model\.safetensors"):
        ours.with_adapters([tmp_path / "a"])


def test_a_checkpoint_becomes_an_adapter_that_peft_loads(folder: Path, ours: sgtr_jax.Model, tmp_path: Path) -> None:
    model = adapted(folder, target_modules=["q_proj", "gate_proj"])
    wanted = logits(model)
    model.merge_and_unload().save_pretrained(tmp_path / "checkpoint")
    export_as_adapter(str(tmp_path / "checkpoint"), str(folder), 6, tmp_path / "a", leave_out=False)
    back = peft.PeftModel.from_pretrained(base_of(folder), tmp_path / "a").eval()
    np.testing.assert_allclose(logits(back), wanted, atol=1e-4, rtol=0)
    np.testing.assert_allclose(ours.with_adapters([tmp_path / "a"]).logits(TOKENS), wanted, atol=1e-4, rtol=0)
