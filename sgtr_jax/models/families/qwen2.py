"""Qwen2 and Qwen2.5: Llama's decoder with biases on queries, keys and values."""

from __future__ import annotations

from dataclasses import replace

from sgtr_jax.models.config_json import ConfigReader, llama_spec
from sgtr_jax.models.families.family import Family, Maker
from sgtr_jax.models.layer_config import qwen_windows, shortest_pattern, uniform_rope
from sgtr_jax.models.spec import LayerKind, ModelSpec


def _read(read: ConfigReader) -> ModelSpec:
    read.refuse("use_mrope", "a rope over several axes")
    rope = uniform_rope(read)
    pattern = shortest_pattern([LayerKind(rope, window) for window in qwen_windows(read)])
    # Qwen2Attention writes bias=True on q, k, v and none elsewhere, whatever the config.
    return replace(llama_spec(read, "qwen2", pattern), qkv_bias=True)


FAMILY = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    source="transformers/models/qwen2/modeling_qwen2.py",
    read=_read,
    keys=frozenset({"use_sliding_window", "sliding_window", "max_window_layers", "use_mrope"}),
    maker=Maker("qwen", ("Qwen", "Alibaba")),
    default_systems={
        "Qwen2": "You are a helpful assistant.",
        "Qwen2.5": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    },
)
