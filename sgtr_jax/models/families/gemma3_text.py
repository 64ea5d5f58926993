"""Gemma 3: norms on both sides of attention and MLP and of each head's queries and keys, all as `1 + weight`.

Five of six layers have a window and a rope base of their own; embeddings are scaled, the gate is GELU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sgtr_jax.models.config_json import ConfigReader, llama_spec
from sgtr_jax.models.families.family import QK_NORMS, Family, Maker
from sgtr_jax.models.layer_config import FULL, SLIDING, layer_types, ropes_of_two_kinds, shortest_pattern
from sgtr_jax.models.spec import LayerKind, ModelSpec

KEYS = frozenset({
    "hidden_activation", "query_pre_attn_scalar", "sliding_window", "sliding_window_pattern", "rope_local_base_freq",
    "final_logit_softcapping", "attn_logit_softcapping", "use_bidirectional_attention", "attention_bias",
    "_sliding_window_pattern",  # written beside layer_types, and read by no version
})  # fmt: skip
NORMS = {
    **QK_NORMS,
    "attention_norm": "input_layernorm",
    "attention_out_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_out_norm": "post_feedforward_layernorm",
}
MAKER = Maker("gemma", ("Gemma", "Google"))
# What the class takes for a key that is left out (`configuration_gemma3.py`): published files leave out most of them.
_DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 131_072, "rms_norm_eps": 1e-6, "eos_token_id": 1, "query_pre_attn_scalar": 256,
    "sliding_window": 4096, "sliding_window_pattern": 6,
}  # fmt: skip


def _read(read: ConfigReader) -> ModelSpec:
    return gemma3_spec(read, "gemma3_text")


def gemma3_spec(read: ConfigReader, family: str) -> ModelSpec:
    """The text decoder of Gemma 3."""
    read = ConfigReader({**_DEFAULTS, **read.config}, read.where)
    read.refuse("use_bidirectional_attention", "attention to later tokens")
    # The class of transformers has the key, and its attention does not use it.
    read.refuse("attn_logit_softcapping", "a cap on attention's scores")
    if read.config.get("hidden_act") not in (None, read.config["hidden_activation"]):
        raise read.error("hidden_act and hidden_activation disagree; keep hidden_activation")
    ropes = ropes_of_two_kinds(read, {FULL: ("rope_theta", 1_000_000.0), SLIDING: ("rope_local_base_freq", 10_000.0)})
    every = read.integer("sliding_window_pattern")
    types = layer_types(read, lambda i: SLIDING if (i + 1) % every else FULL)
    kinds = {FULL: LayerKind(ropes[FULL])}
    if SLIDING in types:
        kinds[SLIDING] = LayerKind(ropes[SLIDING], read.integer("sliding_window"))
    bias, cap = read.boolean("attention_bias", default=False), read.config.get("final_logit_softcapping")
    spec = llama_spec(
        read, family, shortest_pattern([kinds[kind] for kind in types]), tied=True, act="hidden_activation"
    )
    return replace(
        spec,
        qkv_bias=bias,
        out_bias=bias,
        norm="one_plus",
        norm_after=True,
        qk_norm="head",
        embedding_scale=spec.hidden_size**0.5,
        query_scale=read.number("query_pre_attn_scalar", above=0) ** -0.5,
        logit_soft_cap=None if cap is None else read.number("final_logit_softcapping", above=0),
    )


FAMILY = Family(
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    source="transformers/models/gemma3/modeling_gemma3.py",
    read=_read,
    keys=KEYS,
    norms=NORMS,
    maker=MAKER,
)
