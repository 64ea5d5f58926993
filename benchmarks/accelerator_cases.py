"""What is measured on an accelerator: shapes, examples, prompts, and the floor of each case. Needs numpy only.

A floor is what a case's own operations and bytes take at the matrix rate and the copy bandwidth that were measured in
the same run; a share of the limit is floor over measured time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cases import LORA, SHORT_QUANTILES

TINY = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 2048,
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """Numbers of a model that floors are made of."""

    config: dict[str, Any]
    tiny: bool

    @classmethod
    def read(cls, path: Path, tiny: bool) -> Shape:
        """From a config.json. `tiny` keeps the family and little else, and an eighth of every amount of work."""
        config = json.loads(path.read_text())
        return cls({key: v for key, v in (config | TINY).items() if key != "head_dim"} if tiny else config, tiny)

    def part(self, amount: int) -> int:
        """An amount of work, of which a tiny run does an eighth."""
        return max(2, amount // 8) if self.tiny else amount

    @property
    def widths(self) -> list[tuple[int, int]]:
        """Input and output of a layer's seven products."""
        c = self.config
        D, M, N = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"]
        H = c.get("head_dim") or D // N
        Q, K = N * H, c["num_key_value_heads"] * H
        return [(D, Q), (D, K), (D, K), (Q, D), (D, M), (D, M), (M, D)]

    @property
    def kernels(self) -> int:
        """Parameters of all layers' products."""
        return int(self.config["num_hidden_layers"] * sum(a * b for a, b in self.widths))

    @property
    def adapter(self) -> int:
        """Parameters of one adapter on all of them."""
        return int(self.config["num_hidden_layers"] * sum(LORA["rank"] * (a + b) for a, b in self.widths))

    @property
    def head(self) -> int:
        """Parameters of the vocabulary head."""
        return int(self.config["hidden_size"] * self.config["vocab_size"])

    @property
    def cache_bytes(self) -> int:
        """Of one token of one row, keys and values in bfloat16."""
        return int(4 * self.config["num_hidden_layers"] * self.widths[1][1])

    def training_flops(self, lengths: list[int], targets: list[int]) -> float:
        """Of a step on examples of these lengths: 4 a frozen weight and token, 6 a trained one, the head at targets.

        Attention counts each pair of a token and itself or an earlier one of its example.
        """
        L, Q = self.config["num_hidden_layers"], self.widths[0][1]
        tokens = sum(lengths) * (4.0 * self.kernels + 6.0 * self.adapter)
        return tokens + 4.0 * sum(targets) * self.head + L * 6.0 * Q * sum(n * (n + 1) for n in lengths)

    def prompt_flops(self, prompts: int, length: int) -> float:
        """Of prompts in a forward pass whose last state alone meets the head."""
        L, Q = self.config["num_hidden_layers"], self.widths[0][1]
        attention = 2.0 * L * Q * length * (length + 1)
        return prompts * (2.0 * (self.kernels * length + self.head) + attention)

    def token_bytes(self, rows: int, filled: float, adapters: int = 0) -> float:
        """That a token of every row reads: weights without the embedding table, adapters in float32, the cache."""
        return 2.0 * (self.kernels + self.head) + 4.0 * adapters * self.adapter + rows * filled * self.cache_bytes


@dataclass(frozen=True)
class Example:
    """Token ids and, per token, whether it has a loss."""

    tokens: np.ndarray
    target: np.ndarray


def examples(shape: Shape, kind: str, seed: int) -> list[Example]:
    """One optimizer step: 16 short ones, 16 SGTR examples of about 1,000 tokens and two targets, or 8 full rows."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(8 if kind == "full" else 16):
        if kind == "full":
            length = shape.part(1024)
            targets = length - 1
        elif kind == "short":
            length = int(np.interp(rng.random(), np.linspace(0, 1, len(SHORT_QUANTILES)), SHORT_QUANTILES))
            targets = length // 3
        else:
            length, targets = shape.part(int(np.clip(rng.normal(1000, 150), 600, 1400))), 2
        target = np.zeros(length, bool)
        target[length - targets :] = True
        made.append(Example(rng.integers(1, shape.config["vocab_size"], length).astype(np.int32), target))
    return made


def flops_of(shape: Shape, step: list[Example]) -> float:
    """Operations of a step of examples."""
    return shape.training_flops([len(e.tokens) for e in step], [int(e.target[1:].sum()) for e in step])


def prompts(shape: Shape, count: int, length: int) -> list[tuple[int, ...]]:
    """Random prompts, the same for every contestant."""
    rng = np.random.default_rng(1)
    return [tuple(int(x) for x in rng.integers(1, shape.config["vocab_size"], length)) for _ in range(count)]


@dataclass(frozen=True)
class Case:
    """`aim` is the least share of the limit wanted, `peer_aim` the least ratio to the peer."""

    name: str
    unit: str
    aim: float
    limit: str
    peer_aim: float | None = None


_MATRIX, _MEMORY = "matrix products", "reading weights and cache"
CASES = {
    case.name: case
    for case in (
        Case("decode_64", "tokens/s", 0.80, _MEMORY),
        Case("decode_256", "tokens/s", 0.80, _MEMORY),
        Case("train_short", "examples/s", 0.50, _MATRIX, 5.0),
        Case("train_short_x5", "examples/s", 0.60, _MATRIX),
        Case("train_sgtr", "examples/s", 0.65, _MATRIX, 1.5),
        Case("train_full", "tokens/s", 0.65, _MATRIX, 1.5),
        Case("generate_64", "tokens/s", 0.75, _MEMORY, 2.5),
        Case("generate_100_of_one", "tokens/s", 0.75, _MEMORY, 2.5),
        Case("score", "answers/s", 0.75, _MATRIX, 1.0),
        Case("decode_64_adapter", "tokens/s", 0.70, _MEMORY),
        Case("decode_5x32", "tokens/s", 0.80, _MEMORY),
        Case("score_shared_prefix", "answers/s", 0.75, _MATRIX),
        Case("train_sgtr_xla", "examples/s", 0.0, "the same with attention written out in XLA"),
    )
}
