"""What sampling is measured on: prompts of each case, the same for every contestant. Needs numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import cases
import numpy as np


@dataclass(frozen=True)
class Case:
    """`new` tokens after each of `prompts` prompts of about `length` tokens, `samples` times each; new=0 is a score."""

    name: str
    unit: str
    prompts: int
    length: int
    samples: int
    new: int
    aim: dict[str, float]


CASES = {
    case.name: case
    for case in (
        Case("different_prompts", "tokens/s", 16, 128, 1, 64, {"torch": 1.5, "tunix": 1.5}),
        Case("many_samples", "tokens/s", 1, 512, 64, 32, {"torch": 5.0, "tunix": 5.0}),
        # A tenth of the thousand answers of an evaluation: the rate is the same, the measurement a tenth as long.
        Case("one_token_answers", "answers/s", 100, 300, 1, 0, {"torch": 1.2, "tunix": 2.0}),
    )
}


def prompts_of(case: Case) -> list[list[int]]:
    """Token ids, a tenth of the length up and down."""
    rng = np.random.default_rng(1)
    spread = 0 if case.prompts == 1 else case.length // 10
    lengths = rng.integers(case.length - spread, case.length + spread + 1, case.prompts)
    return [rng.integers(1, cases.MODEL["vocab_size"], n).tolist() for n in lengths]


def count(case: Case) -> int:
    """What a measurement makes, in the case's unit (per second when divided by its time)."""
    return case.prompts * case.samples * (case.new or 1)
