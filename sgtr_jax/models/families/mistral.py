"""Mistral 7B and Mistral Small: Llama's decoder, in the first versions with one window for all layers."""

from __future__ import annotations

from sgtr_jax.models.config_json import ConfigReader, llama_spec
from sgtr_jax.models.families.family import Family, Maker
from sgtr_jax.models.layer_config import FULL, SLIDING, layer_types, uniform_rope
from sgtr_jax.models.spec import LayerKind, ModelSpec


def _read(read: ConfigReader) -> ModelSpec:
    # Only null says that there is no window: without the key the class has one of 4,096.
    absent = "sliding_window" not in read.config
    window = 4096 if absent else None if read.config["sliding_window"] is None else read.integer("sliding_window")
    own = FULL if window is None else SLIDING
    if set(layer_types(read, lambda _: own)) != {own}:
        raise read.error("layer_types: layers of several kinds are not part of this family")
    return llama_spec(read, "mistral", (LayerKind(uniform_rope(read), window),))


FAMILY = Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    source="transformers/models/mistral/modeling_mistral.py",
    read=_read,
    keys=frozenset({"sliding_window"}),
    maker=Maker("mistral", ("Mistral",)),
    default_systems={
        "Mistral-Small-24B-Instruct-2501": "You are Mistral Small 3, a Large Language Model (LLM) created by"
    },
)
