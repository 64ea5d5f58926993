"""Seed-OSS: Llama's decoder with biases that the config chooses and dropout on what is added to the residual stream."""

from __future__ import annotations

from dataclasses import replace

from sgtr_jax.models.config_json import ConfigReader, llama_spec
from sgtr_jax.models.families.family import Family, Maker
from sgtr_jax.models.layer_config import all_full, uniform_rope
from sgtr_jax.models.spec import LayerKind, ModelSpec


def _read(read: ConfigReader) -> ModelSpec:
    all_full(read)
    return replace(
        llama_spec(read, "seed_oss", (LayerKind(uniform_rope(read)),)),
        qkv_bias=read.boolean("attention_bias"),
        out_bias=read.boolean("attention_out_bias"),
        mlp_bias=read.boolean("mlp_bias"),
        attention_dropout=read.number("attention_dropout", below=1),
        residual_dropout=read.number("residual_dropout", below=1),
    )


FAMILY = Family(
    model_type="seed_oss",
    architecture="SeedOssForCausalLM",
    source="transformers/models/seed_oss/modeling_seed_oss.py",
    read=_read,
    keys=frozenset({"attention_bias", "attention_out_bias", "mlp_bias", "residual_dropout"}),
    maker=Maker("seed", ("Seed", "ByteDance", "Doubao")),
)
