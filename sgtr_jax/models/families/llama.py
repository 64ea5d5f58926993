"""Llama 2, 3, 3.1, 3.2 (text) and 3.3: the decoder that the other families are described by."""

from __future__ import annotations

from dataclasses import replace

from sgtr_jax.models.config_json import ConfigReader, llama_spec
from sgtr_jax.models.families.family import Family, Maker
from sgtr_jax.models.layer_config import all_full, uniform_rope
from sgtr_jax.models.spec import LayerKind, ModelSpec


def _read(read: ConfigReader) -> ModelSpec:
    all_full(read)
    # Files of Llama 2 are older than the keys with a default here.
    attention, mlp = (read.boolean(key, default=False) for key in ("attention_bias", "mlp_bias"))
    spec = llama_spec(read, "llama", (LayerKind(uniform_rope(read, default_theta=10_000.0)),))
    return replace(spec, qkv_bias=attention, out_bias=attention, mlp_bias=mlp)


FAMILY = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    source="transformers/models/llama/modeling_llama.py",
    read=_read,
    keys=frozenset({"attention_bias", "mlp_bias"}),
    maker=Maker("llama", ("Llama", "Meta")),
    default_systems=dict.fromkeys(("Llama 3.1", "Llama 3.2", "Llama 3.3"), "Cutting Knowledge Date: December 2023"),
)
