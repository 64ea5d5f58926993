"""What stands for an adapter in records of what was made with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sgtr_jax.files import read_json
from sgtr_jax.fingerprint import file_fingerprint

# Dropout acts in training only; the rest says where the adapter came from.
_WITHOUT_EFFECT = ("lora_dropout", "base_model_name_or_path", "revision", "inference_mode", "peft_version")


def adapter_fingerprint(folder: Path) -> str:
    """Digest of an adapter: its weights, and what `adapter_config.json` says of how they act. Raises InputError.

    The same weights under another alpha are another adapter.
    """
    # Here, because it brings JAX: an experiment without adapters of others is listed without it.
    from sgtr_jax.weights.peft import read_adapter_config

    read_adapter_config(folder)
    config = {key: value for key, value in read_json(folder / "adapter_config.json").items() if value is not None}
    acting = {key: value for key, value in config.items() if key not in _WITHOUT_EFFECT}
    modules = acting.get("target_modules")
    if isinstance(modules, list):  # a set, whose order is another one in every process
        acting["target_modules"] = sorted(map(str, modules))
    digest = file_fingerprint(folder / "adapter_model.safetensors")
    return hashlib.sha256(json.dumps([acting, digest], sort_keys=True).encode()).hexdigest()[:16]
