"""PEFT adapter folders: `adapter_config.json` and `adapter_model.safetensors`, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sgtr_jax.config import build
from sgtr_jax.errors import InputError
from sgtr_jax.lora import PROJECTIONS, LoraConfig
from sgtr_jax.mesh import Rules
from sgtr_jax.models.layers import Adapter
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.weights.load import assemble, check_tensors
from sgtr_jax.weights.names import adapter_sources
from sgtr_jax.weights.safetensors_file import read_header
from sgtr_jax.weights.save import hf_tensors, write_safetensors

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

# Settings that would change the mathematics; each must be absent or have this value.
_PLAIN: dict[str, Any] = {
    "bias": "none", "use_dora": False, "fan_in_fan_out": False, "modules_to_save": None, "rank_pattern": {},
    "alpha_pattern": {}, "layers_to_transform": None, "lora_bias": False, "layer_replication": None,
    "target_parameters": None, "trainable_token_indices": None, "use_qalora": False, "use_bdlora": None,
    "alora_invocation_tokens": None,
}  # fmt: skip


def read_adapter_config(folder: Path) -> LoraConfig:
    """Rank, alpha, rsLoRA, dropout and targets of an adapter folder. Raises InputError for other adapter kinds."""
    path = folder / _CONFIG
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder}: no {_CONFIG}; expected a PEFT adapter folder") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    if data.get("peft_type") != "LORA":
        raise InputError(f"{path}: peft_type is {data.get('peft_type')!r}; only 'LORA' is supported")
    for key, plain in _PLAIN.items():
        if data.get(key, plain) not in (plain, None):
            raise InputError(f"{path}: {key} is {data[key]!r}, which is not supported (expected {plain!r})")
    targets = data.get("target_modules")
    if not isinstance(targets, list):
        raise InputError(f"{path}: target_modules is {targets!r}; expected a list of projection names")
    return build(
        LoraConfig,
        {
            "rank": data.get("r"),
            "alpha": data.get("lora_alpha"),
            "rslora": bool(data.get("use_rslora", False)),
            "dropout": data.get("lora_dropout", 0.0),
            "targets": sorted(targets),
        },
        str(path),
    )


def load_adapter(folder: Path, spec: ModelSpec, mesh: Mesh, rules: Rules) -> tuple[Adapter, LoraConfig]:
    """Load a PEFT adapter as float32. Raises InputError when it is of another base or rank."""
    config = read_adapter_config(folder)
    tensors = read_header(folder / _WEIGHTS)
    sources = adapter_sources(spec, config.targets, config.rank)
    try:
        check_tensors(tensors, sources, spec, str(folder / _WEIGHTS))
    except InputError as error:
        raise InputError(f"{folder}: this adapter is of another base model or rank:\n{error}") from None
    params = assemble(tensors, sources, mesh, rules, jnp.float32)
    scale: Any = np.float32(config.scale)  # a host value, which may go to the devices of many processes
    return Adapter(params, scale), config


def save_adapter(folder: Path, adapter: Adapter, config: LoraConfig, spec: ModelSpec, base: str) -> None:
    """Write a folder that `PeftModel.from_pretrained` and `load_adapter` read. `base` is recorded as its name."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = adapter_sources(spec, config.targets, config.rank)
    write_safetensors(folder / _WEIGHTS, dict(hf_tensors(adapter.params, sources)))
    data = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": int(config.alpha) if config.alpha.is_integer() else config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "target_modules": [name for name in PROJECTIONS if name in config.targets],
        "bias": "none",
        "inference_mode": True,
    }
    (folder / _CONFIG).write_text(json.dumps(data, indent=2) + "\n")
