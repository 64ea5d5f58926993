"""Tiny random models of every family, made by transformers. A family is added by one line of `CASES` for each shape."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import transformers

COMMON = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "eos_token_id": 2, "bos_token_id": 0,
    "pad_token_id": 1, "attention_dropout": 0.0,
}  # fmt: skip

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "rope_theta": 500.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16, "rope_theta": 5e3,
}  # fmt: skip
# Rows of the tests are longer than these windows, and than what the scaled ropes were trained with.
CASES: dict[str, dict[str, Any]] = {
    "qwen2-gqa4": {"family": "qwen2", "num_attention_heads": 4, "num_key_value_heads": 1},
    "qwen2-mha-tied": {
        "family": "qwen2", "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True,
    },
    "qwen2-gqa7-headdim": {
        "family": "qwen2", "num_attention_heads": 14, "num_key_value_heads": 2, "head_dim": 6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "qwen2-windows": {
        "family": "qwen2", "num_attention_heads": 4, "num_key_value_heads": 2, "use_sliding_window": True,
        "sliding_window": 4, "max_window_layers": 1,
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
    "qwen3-headdim": {"family": "qwen3", "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10},
    "qwen3-tied-yarn": {
        "family": "qwen3", "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8,
        "tie_word_embeddings": True, "attention_bias": True, "rope_parameters": YARN,
    },
    "llama3-tied": {
        "family": "llama", "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
        "rope_parameters": LLAMA3,
    },
    "llama-biases-linear": {
        "family": "llama", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "attention_bias": True,
        "mlp_bias": True, "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e4},
    },
    "olmo2-gqa2": {"family": "olmo2", "num_attention_heads": 4, "num_key_value_heads": 2},
    "olmo3-yarn": {
        "family": "olmo3", "num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 5,
        "sliding_window": 5, "rope_parameters": {
            "full_attention": YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        },
    },
    "mistral-window": {
        "family": "mistral", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 6,
    },
    "mistral-no-window": {
        "family": "mistral", "num_attention_heads": 4, "num_key_value_heads": 1, "sliding_window": None,
    },
    "gemma3-linear": {
        "family": "gemma3_text", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10,
        "query_pre_attn_scalar": 24, "sliding_window": 4, "num_hidden_layers": 4, "layer_types": [
            "sliding_attention", "sliding_attention", "full_attention", "sliding_attention",
        ], "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        }, "final_logit_softcapping": 5.0,
    },
    "gemma3-untied": {
        "family": "gemma3_text", "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        "sliding_window": 7, "num_hidden_layers": 3, "tie_word_embeddings": False,
    },
}  # fmt: skip


def make(case: str, folder: Path, dtype: torch.dtype = torch.float32, **overrides: Any) -> Any:
    """Create, save and return the model of a case, whose own settings go before `overrides`.

    Biases and norms are randomised too: zeros hide mistakes.
    """
    settings = copy.deepcopy({**COMMON, **overrides, **CASES[case]})
    family = settings.pop("family")
    if family == "seed_oss":
        settings.setdefault("residual_dropout", 0.0)
    torch.manual_seed(sum(map(ord, case)))
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1.0, 0.2)
            else:
                parameter.normal_(0.0, 0.15)
    model = model.to(dtype)
    model.save_pretrained(folder)
    return model
