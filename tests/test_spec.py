"""config.json is read whole, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny import QWEN, SEED

from sgtr_jax.errors import InputError
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.models.spec import LayerKind, Rope


def test_rope_theta_is_found_in_both_places() -> None:
    old = spec_from_config({**QWEN, "rope_theta": 1e6}, "c")
    inside = {"rope_type": "default", "rope_theta": 1e6}
    new = {key: value for key, value in QWEN.items() if key != "rope_theta"} | {"rope_parameters": inside}
    assert old.pattern == spec_from_config(new, "c").pattern == (LayerKind(Rope(1e6)),)


def test_biases_follow_the_family() -> None:
    qwen, seed = spec_from_config(QWEN, "c"), spec_from_config(SEED, "c")
    assert (qwen.has_bias("q_proj"), qwen.has_bias("o_proj"), qwen.has_bias("up_proj")) == (True, False, False)
    assert (seed.has_bias("q_proj"), seed.has_bias("o_proj"), seed.has_bias("up_proj")) == (True, True, False)


def test_head_dim_defaults_to_an_even_split_and_may_differ() -> None:
    assert spec_from_config(QWEN, "c").head_dim == 8
    assert spec_from_config(SEED, "c").projections["q_proj"] == (32, 64)


@pytest.mark.parametrize(
    ("base", "change", "part"),
    [
        (QWEN, {"model_type": "gpt9"}, "supported: "),
        (QWEN, {"architectures": ["Qwen2ForSequenceClassification"]}, "Qwen2ForCausalLM"),
        (QWEN, {"qk_norm": True}, "qk_norm"),
        (QWEN, {"is_encoder_decoder": True}, "is_encoder_decoder"),
        (QWEN, {"add_cross_attention": True}, "add_cross_attention"),
        (QWEN, {"pruned_heads": {"0": [1]}}, "pruned_heads"),
        (QWEN, {"attention_bias": False}, "attention_bias"),
        (QWEN, {"hidden_act": "gelu"}, "gelu"),
        (QWEN, {"use_sliding_window": True}, "sliding_window"),
        (QWEN, {"layer_types": ["full_attention", "sliding_attention"]}, "sliding-window"),
        (QWEN, {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "dynamic"),
        (QWEN, {"rope_scaling": {"type": "linear", "factor": 4.0, "long_factor": [1.0]}}, "long_factor"),
        (QWEN, {"rope_scaling": {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0}}, "high_freq_factor"),
        (
            QWEN,
            {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_parameters": {"rope_type": "default"}},
            "keep one",
        ),
        (QWEN, {"head_dim": 7}, "even"),
        (QWEN, {"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, "5.0"),
        (QWEN, {"rope_theta": None}, "rope_theta"),
        (QWEN, {"num_key_value_heads": 3}, "evenly"),
        (QWEN, {"hidden_size": 34, "num_attention_heads": 4}, "head_dim"),
        (QWEN, {"vocab_size": None}, "vocab_size"),
        (QWEN, {"vocab_size": "320"}, "whole number"),
        (QWEN, {"num_hidden_layers": 0}, "1 or more"),
        (SEED, {"attention_out_bias": None}, "attention_out_bias"),
        (SEED, {"mlp_bias": "no"}, "mlp_bias"),
    ],
)
def test_what_is_not_understood_is_refused(base: dict[str, Any], change: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=r"^config\.json") as caught:
        spec_from_config({**base, **change}, "config.json")
    assert part in str(caught.value)


OLMO: dict[str, Any] = {
    **{key: value for key, value in QWEN.items() if key != "rope_theta"}, "architectures": ["Olmo3ForCausalLM"],
    "model_type": "olmo3", "num_hidden_layers": 8, "sliding_window": 4096, "attention_bias": False,
}  # fmt: skip
GEMMA: dict[str, Any] = {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 2560}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "attention_factor": 1.2}
LINEAR = {"rope_type": "linear", "factor": 8.0}


def test_what_other_kinds_of_models_have_may_be_off() -> None:
    off = {"is_encoder_decoder": False, "add_cross_attention": False, "pruned_heads": {}, "use_return_dict": True}
    assert spec_from_config({**QWEN, **off}, "tiny") == spec_from_config(QWEN, "tiny")


def test_what_transformers_4_and_5_write_of_ropes_by_layer_is_the_same() -> None:
    """4 has one base and one scaling at the top level, the latter of layers without a window; 5 has each by itself."""
    of_four = spec_from_config({**OLMO, "rope_theta": 500000, "rope_scaling": YARN}, "c")
    plain = {"rope_type": "default", "rope_theta": 500000.0}
    both = {"full_attention": {**YARN, "rope_theta": 500000.0}, "sliding_attention": plain}
    assert of_four == spec_from_config({**OLMO, "rope_parameters": both}, "c")
    assert [kind.window for kind in of_four.pattern] == [4096, 4096, 4096, None]
    assert [kind.rope.scaling is None for kind in of_four.pattern] == [True, True, True, False]

    of_four = spec_from_config({**GEMMA, "rope_scaling": LINEAR, "sliding_window": 1024}, "c")
    both = {"full_attention": {**LINEAR, "rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    types = ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(26)]
    new = {**GEMMA, "rope_parameters": both, "sliding_window": 1024, "layer_types": types}
    assert of_four == spec_from_config(new, "c")
    # What the file leaves out is what the class of transformers has.
    assert (of_four.num_heads, of_four.head_dim, of_four.vocab_size, of_four.tie_embeddings) == (8, 256, 262_208, True)
    assert len(of_four.pattern) == 6 and of_four.query_scale == 1 / 16


def test_a_window_that_mistral_leaves_out_is_the_one_of_its_class() -> None:
    mistral = {**QWEN, "architectures": ["MistralForCausalLM"], "model_type": "mistral"}
    windows = [spec_from_config({**mistral, **more}, "c").pattern[0].window for more in ({}, {"sliding_window": None})]
    assert windows == [4096, None]


@pytest.mark.parametrize(
    ("base", "change", "part"),
    [
        (OLMO, {"rope_theta": 1e4}, "read differently"),
        (OLMO, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "an object for each of"),
        (OLMO, {"layer_types": ["full_attention"] * 7}, "lists 7 layers"),
        (OLMO, {"layer_types": ["chunked_attention"] * 8}, "layer_types"),
        (OLMO, {"clip_qkv": 8.0}, "clip_qkv"),
        (GEMMA, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        (GEMMA, {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        (GEMMA, {"rope_theta": 1e5, "rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "rope_theta"),
        (GEMMA, {"hidden_activation": "relu"}, "relu"),
    ],
)
def test_what_ropes_and_windows_cannot_be_is_refused(base: dict[str, Any], change: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=r"^config\.json") as caught:
        spec_from_config({**base, **change}, "config.json")
    assert part in str(caught.value)


@pytest.mark.parametrize("length", [3, 4, 40])
def test_keys_that_a_query_sees(length: int) -> None:
    """Counted in the mask of each layer, without the half key by which a query sees itself."""
    spec = spec_from_config({**OLMO, "sliding_window": 4}, "c")
    queries, keys = np.arange(length)[:, None], np.arange(length)
    counted = 0.0
    for window in 2 * (4, 4, 4, length):
        counted += ((keys <= queries) & (queries - keys < window)).sum() / length - min(window, length) / (2 * length)
    assert spec.keys_seen(length) == pytest.approx(counted)


@pytest.mark.parametrize(
    ("model_type", "key"),
    [("qwen3_moe", "num_experts"), ("gpt_oss", "num_local_experts"), ("deepseek_v3", "n_routed_experts")],
)
def test_a_mixture_of_experts_is_refused_with_the_reason(model_type: str, key: str) -> None:
    with pytest.raises(InputError, match=rf"^c: model_type '{model_type}' is not .* mixture of experts .*{key} is 32"):
        spec_from_config({**QWEN, "architectures": ["X"], "model_type": model_type, key: 32}, "c")
    with pytest.raises(InputError, match="'gpt2' is not supported; supported: gemma3"):
        spec_from_config({**QWEN, "model_type": "gpt2"}, "c")
