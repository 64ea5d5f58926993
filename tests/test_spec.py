"""config.json is read whole, or refused."""

from __future__ import annotations

from typing import Any

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
