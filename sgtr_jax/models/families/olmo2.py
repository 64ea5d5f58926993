"""OLMo 2: norms behind attention and MLP instead of before them, and of all heads' queries and keys together."""

from __future__ import annotations

from dataclasses import replace

from sgtr_jax.models.config_json import ConfigReader, llama_spec
from sgtr_jax.models.families.family import QK_NORMS, Family, Maker
from sgtr_jax.models.layer_config import all_full, uniform_rope
from sgtr_jax.models.spec import LayerKind, ModelSpec

NORMS = {
    **QK_NORMS,
    "attention_out_norm": "post_attention_layernorm",
    "mlp_out_norm": "post_feedforward_layernorm",
}
MAKER = Maker("olmo", ("OLMo", "Ai2", "Allen Institute"))


def _read(read: ConfigReader) -> ModelSpec:
    all_full(read)
    return olmo_spec(read, "olmo2", (LayerKind(uniform_rope(read, default_theta=10_000.0)),))


def olmo_spec(read: ConfigReader, family: str, pattern: tuple[LayerKind, ...]) -> ModelSpec:
    """The decoder of OLMo 2 and 3, which differ in their kinds of layers."""
    bias = read.boolean("attention_bias", default=False)
    return replace(
        llama_spec(read, family, pattern),
        qkv_bias=bias,
        out_bias=bias,
        norm="scale",
        norm_before=False,
        norm_after=True,
        qk_norm="projection",
    )


FAMILY = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    source="transformers/models/olmo2/modeling_olmo2.py",
    read=_read,
    keys=frozenset({"attention_bias"}),
    norms=NORMS,
    maker=MAKER,
)
