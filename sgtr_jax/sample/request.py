"""What is asked of the engine, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sgtr_jax.errors import InputError
from sgtr_jax.sample.steering import Steered


@dataclass(frozen=True)
class Request:
    """One row to sample. (seed, chain, prompt_id, sample) decides its draws, whatever else is sampled beside it."""

    prompt_id: str
    tokens: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0  # 0 is greedy
    seed: int = 0
    sample: int = 0
    chain: str | None = None  # one of the engine's; None where it has only one
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    stop_ids: tuple[int, ...] = ()  # end the row and are not returned, besides the call's own
    stop: tuple[str, ...] = ()  # texts that end the row; it is cut before them
    logprobs: int | None = None  # None: no log-probabilities; k: the chosen token's and the k likeliest's
    steering: Steered = None  # None: the engine's own, if it has one. It takes no part in the draws

    def check(self, vocab_size: int, max_positions: int) -> None:
        """Raises InputError for what cannot be sampled, naming the prompt."""
        problems = {
            "the prompt has no tokens": not self.tokens,
            f"max_tokens is {self.max_tokens}; expected 1 or more": self.max_tokens < 1,
            f"temperature is {self.temperature}; expected a number of 0 or more": not 0 <= self.temperature < math.inf,
            f"top_p is {self.top_p}; expected more than 0 and at most 1": not 0 < self.top_p <= 1,
            f"top_k is {self.top_k}; expected 0 (all) or more": self.top_k < 0,
            f"logprobs is {self.logprobs}; expected 0 to 100": not 0 <= (self.logprobs or 0) <= 100,
            "an empty text cannot be a stop": "" in self.stop,
            f"a token is not below the vocabulary's {vocab_size}": not all(0 <= t < vocab_size for t in self.tokens),
            f"{len(self.tokens)} prompt tokens and {self.max_tokens} to generate exceed the model's {max_positions} "
            "positions": len(self.tokens) + self.max_tokens > max_positions,
        }
        for problem, found in problems.items():
            if found:
                shown = self.prompt_id if len(self.prompt_id) <= 60 else f"{self.prompt_id[:50]}..."
                raise InputError(f"{shown}: {problem}")


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probability of a generated token under the model (temperature 1, nothing cut), and the likeliest ones'."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # (token, log-probability), likeliest first


@dataclass(frozen=True)
class Completion:
    """Generated ids without the stop token; `finish` is "stop" or "length".

    `text` is decoded and cut before a stop text; `tokens` then end with the token that completed the stop text.
    """

    tokens: tuple[int, ...]
    finish: str
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None
