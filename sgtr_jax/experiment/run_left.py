"""What is left of a run in time and dollars, from what its own artifacts took."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import TypeAlias

Work: TypeAlias = tuple[str, str | None]  # kind of an artifact, and the evaluation that it belongs to
Done: TypeAlias = tuple[str, str | None, float | None, float | None]  # the same, seconds and dollars as far as known


def left_in_words(done: Sequence[Done], missing: Sequence[Work]) -> list[str]:
    """A line about what is left, and one about kinds that none is done of; nothing where nothing is left or known.

    An artifact that is missing takes what those of its kind and evaluation took on average, or else those of its kind.
    """
    if not missing or not done:
        return []
    took = [_mean_of([(one[:2], one[2]) for one in done], work) for work in missing]
    cost = [_mean_of([(one[:2], one[3]) for one in done], work) for work in missing]
    unknown = Counter(kind for (kind, _), seconds in zip(missing, took, strict=True) if math.isnan(seconds))
    known = [seconds for seconds in took if not math.isnan(seconds)]
    dollars = sum(one for one in cost if not math.isnan(one))
    lines = []
    if known:
        words = f"left: about {datetime.timedelta(seconds=round(sum(known)))}"
        words += f" and ${dollars:,.2f} of judging" if dollars else ""
        lines.append(f"{words}, as long as those took that are done")
    if unknown:
        kinds = ", ".join(f"{count} {kind}" for kind, count in unknown.items())
        lines.append(f"left besides, of kinds that none is done of: {kinds}")
    return ["", *lines]


def seconds_left(done: Sequence[Done], missing: Sequence[Work]) -> tuple[float, int]:
    """Seconds that what is missing will take, and how many of it are of kinds that none is done of."""
    took = [_mean_of([(one[:2], one[2]) for one in done], work) for work in missing]
    known = [seconds for seconds in took if not math.isnan(seconds)]
    return sum(known), len(took) - len(known)


def _mean_of(done: Sequence[tuple[Work, float | None]], work: Work) -> float:
    """Mean of what is known of artifacts like `work`; NaN where nothing is."""
    same = [value for one, value in done if one == work and value is not None]
    kind = [value for one, value in done if one[0] == work[0] and value is not None]
    return fmean(same or kind) if kind else math.nan
