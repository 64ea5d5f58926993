"""What few seeds say of the share of all: their own part of an interval or of a test, put together with the rest.

Seeds are drawn from a beta distribution, and answers from a seed's share: the beta-binomial model (Williams 1975). For
every share of all the likeliest spread goes with it (a profile likelihood). So seeds that happen to lie together on the
crowded side, near 0 or 1, are not taken for all: a share further inside goes with a wide and skewed spread, of which
they are no rare draw. The ratio of likelihoods is read as Student's statistic with one degree of freedom less than
there are seeds, which it is exactly where seeds are normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy

# Shares that are tried, by their distance from the seeds' mean in standard errors of its logit: dense near it, and far.
_STEPS = np.sinh(np.linspace(-6, 6, 161))
_FARTHEST = 20.0  # logit
_LEAST_SUM, _MOST_SUM, _SUMS = 0.05, 100.0, 50  # of the two parameters of beta; the most is times the answers: binomial


def quantile(freedom: float, level: float) -> float:
    """Student's two-sided quantile; the normal one at infinite degrees of freedom."""
    upper = 0.5 + level / 2
    return float(scipy.special.ndtri(upper) if math.isinf(freedom) else scipy.special.stdtrit(freedom, upper))


def wilson(share: float, answers: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share, for a number of answers that need not be whole."""
    centre = (share + z * z / (2 * answers)) / (1 + z * z / answers)
    half = z / (1 + z * z / answers) * math.sqrt(share * (1 - share) / answers + z * z / (4 * answers**2))
    # Exactly 0 and 1 where the share is, which rounding would miss.
    return 0.0 if share == 0 else max(0.0, centre - half), 1.0 if share == 1 else min(1.0, centre + half)


@dataclass(frozen=True)
class FewSeeds:
    """Shares of two seeds or more, `answers` to each, apart from all else that a mean or a difference varies by.

    The variance of all else is `rest`, known with `rest_freedom` degrees of freedom. The two parts are put together as
    intervals (Newcombe 1998; Zou and Donner 2008), and not as variances: where few seeds agree by chance, the sum of
    variances has more degrees of freedom than there are, and near 0 and 1 the spread of seeds grows with their mean.
    """

    shares: tuple[float, ...]
    answers: float
    rest: float
    rest_freedom: float = math.inf

    @property
    def share(self) -> float:
        """The mean."""
        return sum(self.shares) / len(self.shares)

    def bounds(self, level: float, freedom: float | None = None) -> tuple[float, float]:
        """The interval of the share of all seeds, within [0, 1]; `freedom` None is one less than the seeds."""
        at, statistics = self._profile
        far = quantile(len(self.shares) - 1 if freedom is None else freedom, level)
        # Where all seeds are 0 or 1 no share is likelier than the outermost one, and the bound is the end itself.
        low, high = np.interp([-far, far], statistics, at, left=0.0, right=1.0)
        return float(low), float(high)

    def reach(self, level: float) -> tuple[float, float]:
        """How far the bounds lie below and above the mean, with the rest."""
        low, high = self.bounds(level)
        others = quantile(self.rest_freedom, level) ** 2 * self.rest
        below, above = max(0.0, self.share - low), max(0.0, high - self.share)
        return math.sqrt(below**2 + others), math.sqrt(above**2 + others)

    def tail(self, gap: float, side: int) -> float:
        """One-sided p-value of lying `gap` from a bound that is below (side 0) or above (1): at most one half."""
        return _tail(self.reach, gap, side)

    def negated(self) -> FewSeeds:
        """The shares of what is not counted."""
        return replace(self, shares=tuple(1 - share for share in self.shares))

    @cached_property
    def _profile(self) -> tuple[np.ndarray, np.ndarray]:
        """Shares of all, in order, and Student's statistic of each: negative below the likeliest one."""
        k, n = len(self.shares), self.answers
        mean = (self.share * k * n + 0.5) / (k * n + 1)
        spread = float(np.var(self.shares, ddof=1)) / k
        error = math.sqrt(max(spread, mean * (1 - mean) / (k * n))) / (mean * (1 - mean))
        logits = np.unique(np.clip(scipy.special.logit(mean) + error * _STEPS, -_FARTHEST, _FARTHEST))
        at = scipy.special.expit(logits)
        likelihood = np.max(_log_likelihood(np.asarray(self.shares) * n, n, at), axis=1)
        best = int(likelihood.argmax())
        ratio = 2 * (likelihood[best] - likelihood)
        statistics = np.sqrt((k - 1) * np.expm1(np.minimum(ratio / k, 500.0)))
        statistics[:best] *= -1
        return at, np.maximum.accumulate(statistics)


def _log_likelihood(counts: np.ndarray, answers: float, at: np.ndarray) -> np.ndarray:
    """Of seeds' counts, up to a constant: `[share of all, sum of beta's parameters]`."""
    sums = np.geomspace(_LEAST_SUM, _MOST_SUM * answers, _SUMS)
    a, b = at[:, None] * sums, (1 - at[:, None]) * sums
    found = -len(counts) * scipy.special.betaln(a, b)
    for count in counts:
        found = found + scipy.special.betaln(a + count, b + answers - count)
    return np.asarray(found)


@dataclass(frozen=True)
class FewOfTwo:
    """The difference of the shares of two conditions, of two seeds or more each, apart from what questions vary by.

    The bounds of both shares are put together (Zou and Donner 2008), at the degrees of freedom of Welch's test, and not
    fewer than those of the condition with fewer seeds. Seeds that go together have a correlation, which counts as much
    as so few of them can show.
    """

    first: FewSeeds
    second: FewSeeds
    rest: float
    rest_freedom: float = math.inf
    paired: bool = False

    @cached_property
    def freedom(self) -> float:
        """Welch's, of the variances of both means."""
        parts = [(float(np.var(one.shares, ddof=1)) / len(one.shares), len(one.shares) - 1) for one in self._both]
        spread = sum(value**2 / freedom for value, freedom in parts)
        fewest = min(freedom for _, freedom in parts)
        return fewest if spread == 0 else max(fewest, sum(value for value, _ in parts) ** 2 / spread)

    @cached_property
    def correlation(self) -> float:
        """Of seeds that go together: none of two of them, half of what three show, three quarters of five's."""
        k, (one, other) = len(self.first.shares), (np.asarray(few.shares) for few in self._both)
        if not self.paired or np.ptp(one) == 0 or np.ptp(other) == 0:
            return 0.0
        return max(0.0, float(np.corrcoef(one, other)[0, 1])) * (k - 2) / (k - 1)

    def reach(self, level: float) -> tuple[float, float]:
        """How far the bounds lie below and above the difference, with the rest."""
        (low, high), (other_low, other_high) = (one.bounds(level, self.freedom) for one in self._both)
        others = quantile(self.rest_freedom, level) ** 2 * self.rest
        below = self._together(self.first.share - low, other_high - self.second.share)
        above = self._together(high - self.first.share, self.second.share - other_low)
        return math.sqrt(below + others), math.sqrt(above + others)

    def tail(self, gap: float, side: int) -> float:
        """See `FewSeeds`."""
        return _tail(self.reach, gap, side)

    def negated(self) -> FewOfTwo:
        """The difference the other way round."""
        return replace(self, first=self.second, second=self.first)

    @property
    def _both(self) -> tuple[FewSeeds, FewSeeds]:
        return self.first, self.second

    def _together(self, one: float, other: float) -> float:
        one, other = max(0.0, one), max(0.0, other)
        return one**2 + other**2 - 2 * self.correlation * one * other


def _tail(reach: Callable[[float], tuple[float, float]], gap: float, side: int) -> float:
    def too_far(p: float) -> float:
        return reach(1 - 2 * p)[side] - gap

    least, most = 1e-12, 0.5 - 1e-9
    if too_far(most) >= 0:
        return 0.5
    return least if too_far(least) <= 0 else float(scipy.optimize.brentq(too_far, least, most))


def few_seeds(shares: Sequence[float], answers: float, rest: float, rest_freedom: float = math.inf) -> FewSeeds | None:
    """The seeds' part of a mean or a difference; None of one seed, which says nothing of others."""
    if len(shares) < 2:
        return None
    return FewSeeds(tuple(min(1.0, max(0.0, float(share))) for share in shares), answers, rest, rest_freedom)


def few_of_two(
    first: Sequence[float], second: Sequence[float], answers: float, rest: float, rest_freedom: float, paired: bool
) -> FewOfTwo | None:
    """The seeds' part of the difference of two conditions; None where one has a single seed."""
    one, other = few_seeds(first, answers, 0.0), few_seeds(second, answers, 0.0)
    return None if one is None or other is None else FewOfTwo(one, other, rest, rest_freedom, paired)
