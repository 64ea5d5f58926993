"""Which implementation of attention a backend gets where nobody says, and what it costs beside the projections."""

from __future__ import annotations

import sys
from functools import cache

from sgtr_jax.models.attention import AttentionKind
from sgtr_jax.models.flash import flash_problem

# The length of a row at which attention costs about as much as the projections of the same tokens, forward and
# backward. GPU, written out in XLA: from steps on one H200, where a token cost 64 us in rows of 160 tokens and 69 in
# rows of 1,920. GPU, flash: arithmetic, half of that; not measured. Elsewhere: the order of magnitude that is
# published for TPUs.
_EQUAL_COST = {("gpu", "xla"): 12_000.0, ("gpu", "flash"): 24_000.0}
_ELSEWHERE = 4096.0


def attention_for(platform: str) -> AttentionKind:
    """The implementation for prompts and training on devices of `platform`: cpu, gpu or tpu.

    On GPU flash attention, once it has given what the reference gives on a small case; a line on stderr says if not.
    """
    if platform == "tpu":
        return "splash"
    if platform != "gpu":
        return "xla"
    problem = flash_problem()
    if problem is None:
        return "flash"
    _say(problem)
    return "xla"


@cache
def _say(problem: str) -> None:
    print(f"attention: xla, as flash attention cannot be used here: {problem}", file=sys.stderr)


def equal_cost_length(kind: AttentionKind, platform: str) -> float:
    """Tokens of a row at which attention costs as much as the projections; what packing weighs lengths by."""
    return _EQUAL_COST.get((platform, kind), _ELSEWHERE)
