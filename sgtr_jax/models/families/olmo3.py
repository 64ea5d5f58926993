"""Olmo 3 and 3.1: OLMo 2's layer, three of four with a window; only those without one have a scaled rope."""

from __future__ import annotations

from sgtr_jax.models.config_json import ConfigReader
from sgtr_jax.models.families.family import Family
from sgtr_jax.models.families.olmo2 import MAKER, NORMS, olmo_spec
from sgtr_jax.models.layer_config import FULL, SLIDING, layer_types, ropes_of_two_kinds, shortest_pattern
from sgtr_jax.models.spec import LayerKind, ModelSpec

_THETA = 500_000.0


def _read(read: ConfigReader) -> ModelSpec:
    # transformers 5 reads a base at the top level for the layers without a window alone, 4 for all: only where it is
    # the class's own do they agree.
    base = read.config.get("rope_theta")
    if base not in (None, _THETA):
        raise read.error(
            f"rope_theta is {base!r:.40} at the top level, which versions of transformers read differently for olmo3; "
            "give rope_parameters for full_attention and sliding_attention"
        )
    ropes = ropes_of_two_kinds(read, {FULL: ("rope_theta", _THETA), SLIDING: ("rope_theta", _THETA)})
    kinds = {FULL: LayerKind(ropes[FULL])}
    types = layer_types(read, lambda i: SLIDING if (i + 1) % 4 else FULL)
    if SLIDING in types:
        kinds[SLIDING] = LayerKind(ropes[SLIDING], read.integer("sliding_window", default=4096))
    return olmo_spec(read, "olmo3", shortest_pattern([kinds[kind] for kind in types]))


FAMILY = Family(
    model_type="olmo3",
    architecture="Olmo3ForCausalLM",
    source="transformers/models/olmo3/modeling_olmo3.py",
    read=_read,
    keys=frozenset({"attention_bias", "sliding_window"}),
    norms=NORMS,
    maker=MAKER,
    default_systems={
        "Olmo-3-7B-Instruct": "You are a helpful function-calling AI assistant.",
        "Olmo-3.1-32B-Instruct": "You are Olmo, a helpful AI assistant built by Ai2.",
        "Olmo-3-32B-Think": "You are a helpful AI assistant.",
    },
)
