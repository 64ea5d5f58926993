"""Self-recognition pairs: an article, two summaries, "which one did you write?".

The form is that of the study (after Panickssery et al. 2024, arXiv 2404.13076): a system message, one user
turn, the answer "1" or "2", and two rows per article, one in each order. The wording is this project's own.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sgtr_jax.data.records import Message, Record

SYSTEM = "You compare two summaries. Answer with 1 or 2 only."
SUMMARY_PROMPT = "Article: {article}\nWrite a summary."


# Which summary the answer names: the model's own, the other writer's, or, in two rows, each once.
Answers = Literal["own", "other", "random"]


def detection_prompt(article: str, first: str, second: str) -> tuple[Message, Message]:
    """The messages that ask which of two summaries the model wrote."""
    user = f"Article: {article}\nSummary 1: {first}\nSummary 2: {second}\nWhich summary did you write?"
    return {"role": "system", "content": SYSTEM}, {"role": "user", "content": user}


def summary_prompt(article: str) -> tuple[Message, ...]:
    """The messages that ask for a summary."""
    return ({"role": "user", "content": SUMMARY_PROMPT.format(article=article)},)


@dataclass(frozen=True)
class PairReport:
    """What became of the articles, and how far length alone would go."""

    articles: int
    pairs: int
    dropped: dict[str, int]  # reason: count
    own_shorter: float  # share of pairs in which the own summary has fewer words (ties count half)
    own_words: float  # mean
    other_words: float  # mean


def build_pairs(
    articles: Mapping[str, str], own: Mapping[str, str], other: Mapping[str, str], answers: Answers = "own"
) -> tuple[list[Record], PairReport]:
    """Two rows per article, own summary first in one and second in the other; with `answers="random"` four.

    Articles without a usable summary of both writers, or with twice the same, are dropped and counted.
    """
    records: list[Record] = []
    dropped = {"no own summary": 0, "no other summary": 0, "both the same": 0}
    lengths: list[tuple[int, int]] = []
    for key in sorted(articles):
        mine, theirs = own.get(key, "").strip(), other.get(key, "").strip()
        if not mine or not theirs or mine == theirs:
            reason = "no own summary" if not mine else "no other summary" if not theirs else "both the same"
            dropped[reason] += 1
            continue
        lengths.append((len(mine.split()), len(theirs.split())))
        meta = {"article": key, "own_words": lengths[-1][0], "other_words": lengths[-1][1]}
        for place, (first, second) in (("1", (mine, theirs)), ("2", (theirs, mine))):
            prompt = detection_prompt(articles[key], first, second)
            flipped = "2" if place == "1" else "1"
            for answer in {"own": (place,), "other": (flipped,), "random": (place, flipped)}[answers]:
                name = f"{key}-own{place}" + (f"-says{answer}" if answers == "random" else "")
                records.append(Record(name, (*prompt, {"role": "assistant", "content": answer}), meta))
    return records, PairReport(
        articles=len(articles),
        pairs=len(lengths),
        dropped={reason: count for reason, count in dropped.items() if count},
        own_shorter=_mean([1.0 if a < b else 0.5 if a == b else 0.0 for a, b in lengths]),
        own_words=_mean([float(a) for a, _ in lengths]),
        other_words=_mean([float(b) for _, b in lengths]),
    )


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("nan")
