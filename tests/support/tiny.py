"""Tiny random models and data, made here in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sgtr_jax.data.records import Record
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.finetune.make_nano import make_tokenizer
from sgtr_jax.lora.adapter import Adapter, init_adapter
from sgtr_jax.lora.config import LoraConfig
from sgtr_jax.models.decoder import abstract_params
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.weights.peft import save_adapter
from sgtr_jax.weights.save import save_params

QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "vocab_size": 320,
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "eos_token_id": 0,
}  # fmt: skip
SEED: dict[str, Any] = {
    **QWEN, "architectures": ["SeedOssForCausalLM"], "model_type": "seed_oss", "head_dim": 16,
    "attention_bias": True, "attention_out_bias": True, "mlp_bias": False, "attention_dropout": 0.0,
    "residual_dropout": 0.0,
}  # fmt: skip
_PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# Two layers of three have a window.
OLMO: dict[str, Any] = {
    **QWEN, "architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3", "num_hidden_layers": 3, "rope_theta": None,
    "sliding_window": 4, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "rope_parameters": {
        "full_attention": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8},
        "sliding_attention": _PLAIN_ROPE,
    },
}  # fmt: skip
GEMMA: dict[str, Any] = {
    **OLMO, "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_act": None, "head_dim": 12,
    "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 20,
}  # fmt: skip


def spec_of(config: dict[str, Any] = QWEN, **changes: Any) -> ModelSpec:
    return spec_from_config({**config, **changes}, "tiny")


def random_params(spec: ModelSpec, seed: int = 0, dtype: Any = np.float32) -> Any:
    """Every parameter random, norms and biases too: zeros and ones would hide mistakes."""
    rng = np.random.default_rng(seed)

    def fill(path: Any, leaf: Any) -> Any:
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return np.asarray(centre + 0.15 * rng.standard_normal(leaf.shape), dtype)

    return jax.tree.map_with_path(fill, abstract_params(spec))


def make_model(folder: Path, config: dict[str, Any] = QWEN, seed: int = 0, **changes: Any) -> ModelSpec:
    """A model folder with weights, config and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**config, **changes}
    spec = spec_from_config(config, "tiny")
    (folder / "config.json").write_text(json.dumps(config))
    save_params(folder, random_params(spec, seed), spec)
    make_tokenizer(folder, preferences(200, 0, True), vocab_size=spec.vocab_size)
    return spec


def make_adapter(folder: Path, spec: ModelSpec, seed: int = 0, size: float = 0.05, **lora: Any) -> Adapter:
    """An adapter folder whose B is not zero."""
    config = LoraConfig(**{"rank": 4, "alpha": 8.0, **lora})
    adapter = init_adapter(spec, config, jax.random.key(seed))
    rng = np.random.default_rng(seed)
    params = {
        name: {"a": pair["a"], "b": np.asarray(size * rng.standard_normal(pair["b"].shape), np.float32)}
        for name, pair in adapter.params.items()
    }
    full = Adapter(params, adapter.scale)
    save_adapter(folder, full, config, spec, "tiny")
    return full


def write_records(path: Path, records: list[Record]) -> Path:
    path.write_text("".join(json.dumps(record.to_json()) + "\n" for record in records))
    return path
