"""Qwen3: Llama's decoder with norms of each head's queries and keys. Qwen3 may think before it answers."""

from __future__ import annotations

from dataclasses import replace

from sgtr_jax.models.config_json import ConfigReader, llama_spec
from sgtr_jax.models.families.family import LLAMA_NORMS, QK_NORMS, Family, Maker
from sgtr_jax.models.layer_config import qwen_windows, shortest_pattern, uniform_rope
from sgtr_jax.models.spec import LayerKind, ModelSpec


def _read(read: ConfigReader) -> ModelSpec:
    rope = uniform_rope(read)
    pattern = shortest_pattern([LayerKind(rope, window) for window in qwen_windows(read)])
    bias = read.boolean("attention_bias", default=False)
    spec = llama_spec(read, "qwen3", pattern, head_dim=128)
    return replace(spec, qkv_bias=bias, out_bias=bias, qk_norm="head")


FAMILY = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    source="transformers/models/qwen3/modeling_qwen3.py",
    read=_read,
    keys=frozenset({"attention_bias", "use_sliding_window", "sliding_window", "max_window_layers"}),
    norms={**LLAMA_NORMS, **QK_NORMS},
    maker=Maker("qwen", ("Qwen", "Alibaba")),
)
