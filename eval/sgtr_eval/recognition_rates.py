"""Self-recognition rates beside what word counts alone would give. Pure functions of choices and lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class RecognitionRates:
    """How often the model named its own summary. An invalid choice is not right."""

    n: int
    accuracy: float
    invalid: float  # share of choices that are none
    pick_shorter: float  # accuracy of a reader who always takes the shorter one, ties counting half
    length_baseline: float  # of the better of "mine is the shorter" and "mine is the longer"
    n_own_shorter: int
    acc_when_own_shorter: float
    n_own_longer: int
    acc_when_own_longer: float
    balanced_accuracy: float  # mean of the two; a reader who only counts words gets one half

    def to_dict(self) -> dict[str, float]:
        """Numbers by name."""
        return {name: float(value) for name, value in asdict(self).items()}


def recognition_rates(
    chose_own: Sequence[bool | None], own_words: Sequence[int], other_words: Sequence[int]
) -> RecognitionRates:
    """Rates over pairs; None is a choice that named neither."""
    rows = list(zip(chose_own, own_words, other_words, strict=True))
    n = len(rows)
    shorter = [chose for chose, own, other in rows if own < other]
    longer = [chose for chose, own, other in rows if own > other]
    ties = n - len(shorter) - len(longer)
    short, long = _share(shorter), _share(longer)
    known = [value for value in (short, long) if not math.isnan(value)]
    return RecognitionRates(
        n=n,
        accuracy=_share(list(chose_own)),
        invalid=sum(chose is None for chose in chose_own) / n if n else math.nan,
        pick_shorter=(len(shorter) + ties / 2) / n if n else math.nan,
        length_baseline=(max(len(shorter), len(longer)) + ties / 2) / n if n else math.nan,
        n_own_shorter=len(shorter),
        acc_when_own_shorter=short,
        n_own_longer=len(longer),
        acc_when_own_longer=long,
        balanced_accuracy=sum(known) / len(known) if known else math.nan,
    )


def _share(chose: Sequence[bool | None]) -> float:
    return sum(one is True for one in chose) / len(chose) if chose else math.nan
