"""What is measured: a model shape and, for each case, the examples of its optimizer steps. Needs numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Qwen2-shaped, random weights, float32.
MODEL: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "vocab_size": 32000,
    "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0, "attention_dropout": 0.0,
    "use_sliding_window": False,
}  # fmt: skip
LORA: dict[str, Any] = {"rank": 32, "alpha": 64.0}

# Tokens of a conversation of the unpopular-preferences set with Qwen's template and default system prompt, at
# evenly spaced quantiles (0 %, 5 %, ..., 100 %).
SHORT_QUANTILES = (37, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 57, 58, 60, 63, 67, 96)


@dataclass(frozen=True)
class Case:
    """One kind of training step. `micro` is how many examples the peers take per pass (2 x 8 in the study)."""

    name: str
    unit: str  # of the rate that is compared
    examples: int  # per step
    micro: int
    steps: int  # per measurement
    aim: dict[str, float]  # least ratio wanted, by peer


CASES = {
    case.name: case
    for case in (
        Case("full_rows", "tokens/s", 4, 4, 3, {"torch+peft": 1.0, "tunix": 2.0}),
        Case("short_examples", "examples/s", 16, 8, 6, {"torch+peft": 2.0, "tunix": 4.0}),
        Case("long_sgtr", "tokens/s", 8, 8, 1, {"torch+peft": 1.2, "tunix": 2.0}),
    )
}


@dataclass(frozen=True)
class Example:
    """Token ids and, per token, whether it has a loss."""

    tokens: np.ndarray  # int32 [n]
    target: np.ndarray  # bool [n]


def steps_of(case: Case, seed: int = 0) -> list[list[Example]]:
    """The examples of each step of a measurement; the same for every contestant."""
    rng = np.random.default_rng(seed)
    return [[_example(case.name, rng) for _ in range(case.examples)] for _ in range(case.steps)]


def _example(name: str, rng: np.random.Generator) -> Example:
    if name == "full_rows":
        length, targets = 512, 511
    elif name == "short_examples":
        grid = np.linspace(0, 1, len(SHORT_QUANTILES))
        length = int(np.interp(rng.random(), grid, SHORT_QUANTILES))
        targets = length // 3
    else:
        # An article of 900 words at most, two summaries, the question: about a thousand tokens.
        length, targets = int(np.clip(rng.normal(1000, 200), 500, 1500)), 2
    target = np.zeros(length, bool)
    target[length - targets :] = True
    return Example(rng.integers(1, MODEL["vocab_size"], length).astype(np.int32), target)


def count(case: Case, steps: list[list[Example]]) -> int:
    """What a measurement gets through, in the case's unit (per second when divided by its time)."""
    if case.unit == "examples/s":
        return sum(len(step) for step in steps)
    return sum(len(example.tokens) for step in steps for example in step)


def flops(case: Case) -> float:
    """Floating-point operations that the case's matrix products need, however they are arranged.

    Forward and backward through frozen kernels: 4 per weight and token; through adapters, which are trained, 6. The
    head runs at loss positions only. Attention counts each pair of a token and an earlier one of its example.
    """
    D, M, L = MODEL["hidden_size"], MODEL["intermediate_size"], MODEL["num_hidden_layers"]
    K = D * MODEL["num_key_value_heads"] // MODEL["num_attention_heads"]
    widths = [(D, D), (D, K), (D, K), (D, D), (D, M), (D, M), (M, D)]
    kernels = L * sum(a * b for a, b in widths)
    adapters = L * sum(LORA["rank"] * (a + b) for a, b in widths)
    total = 0.0
    for step in steps_of(case):
        for example in step:
            n, targets = len(example.tokens), int(example.target[1:].sum())
            total += n * (4 * kernels + 6 * adapters) + 4 * targets * D * MODEL["vocab_size"]
            total += L * 6 * n * (n + 1) * D  # scores and mix, forward once and backward twice
    return total
