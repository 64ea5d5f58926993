"""Tiny random models of both families, made by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

COMMON = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "eos_token_id": 2, "bos_token_id": 0,
    "pad_token_id": 1, "attention_dropout": 0.0,
}  # fmt: skip

CASES: dict[str, dict[str, Any]] = {
    "qwen2-gqa4": {"family": "qwen2", "num_attention_heads": 4, "num_key_value_heads": 1},
    "qwen2-mha-tied": {
        "family": "qwen2", "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True,
    },
    "qwen2-gqa7-headdim": {
        "family": "qwen2", "num_attention_heads": 14, "num_key_value_heads": 2, "head_dim": 6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "seed-gqa10-wide": {
        "family": "seed_oss", "num_attention_heads": 20, "num_key_value_heads": 2, "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e7},
    },
    "seed-all-biases": {
        "family": "seed_oss", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "attention_out_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
    },
    "seed-no-biases": {
        "family": "seed_oss", "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8,
        "attention_bias": False,
    },
}  # fmt: skip


def make(case: str, folder: Path, dtype: torch.dtype = torch.float32, **overrides: Any) -> Any:
    """Create, save and return the model of a case. Biases and norms are randomised too: zeros hide mistakes."""
    settings = {**COMMON, **CASES[case], **overrides}
    family = settings.pop("family")
    if family == "seed_oss":
        settings.setdefault("residual_dropout", 0.0)
        model_class, config_class = transformers.SeedOssForCausalLM, transformers.SeedOssConfig
    else:
        model_class, config_class = transformers.Qwen2ForCausalLM, transformers.Qwen2Config
    torch.manual_seed(sum(map(ord, case)))
    model = model_class(config_class(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1.0, 0.2)
            else:
                parameter.normal_(0.0, 0.15)
    model = model.to(dtype)
    model.save_pretrained(folder)
    return model
