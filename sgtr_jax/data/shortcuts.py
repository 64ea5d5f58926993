"""What gives a writer away besides style: how well simple readers tell the two summaries of a pair apart.

A model finetuned on pairs may learn any of these instead of recognising itself, so every report on pairs shows them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

import numpy as np

from sgtr_jax.data.pairs import Pair

_FOLDS = 5
_WORD = re.compile(r"\w+")
_OPENING = 3  # words

Features = Callable[[str, str], dict[str, float]]  # (summary, article)


def shortcut_report(pairs: Sequence[Pair]) -> dict[str, float]:
    """For each reader the share of pairs in which it picks the own summary, cross-validated over articles.

    One half is chance. A reader is a logistic regression on features of single summaries; of a pair it picks the one
    it gives the higher score, ties counting half.
    """
    if len({pair.key for pair in pairs}) < 2 * _FOLDS:
        return {}
    readers: dict[str, Features] = {
        "length": _length,
        "overlap with the article": _overlap,
        f"first {_OPENING} words": _opening,
        "bag of words": _words,
    }
    return {name: round(_accuracy(pairs, features), 4) for name, features in readers.items()}


def _accuracy(pairs: Sequence[Pair], features: Features) -> float:
    # scikit-learn is slow to import, and only this needs it.
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    found = [(features(pair.own, pair.article), features(pair.other, pair.article)) for pair in pairs]
    right = 0.0
    # Articles, not pairs, are split: the own summary of an article may stand in several pairs.
    for train, test in GroupKFold(_FOLDS).split(found, groups=[pair.key for pair in pairs]):
        rows = [row for i in train for row in found[i]]
        wanted = np.tile([1, 0], len(train))
        reader = make_pipeline(DictVectorizer(), MaxAbsScaler(), LogisticRegression(solver="liblinear"))
        reader.fit(rows, wanted)
        own, other = (reader.decision_function([found[i][side] for i in test]) for side in (0, 1))
        right += float(np.sum(own > other) + 0.5 * np.sum(own == other))
    return right / len(pairs)


def _length(summary: str, article: str) -> dict[str, float]:
    return {"words": len(summary.split()), "characters": len(summary), "lines": summary.count("\n") + 1}


def _overlap(summary: str, article: str) -> dict[str, float]:
    own, whole = _WORD.findall(summary.lower()), _WORD.findall(article.lower())
    known, neighbours = set(whole), set(itertools.pairwise(whole))
    two = list(itertools.pairwise(own))
    return {
        "words": sum(word in known for word in own) / max(1, len(own)),
        "neighbours": sum(pair in neighbours for pair in two) / max(1, len(two)),
    }


def _opening(summary: str, article: str) -> dict[str, float]:
    return {f"{i}:{word}": 1.0 for i, word in enumerate(_WORD.findall(summary.lower())[:_OPENING])}


def _words(summary: str, article: str) -> dict[str, float]:
    return dict.fromkeys([*_WORD.findall(summary.lower()), *re.findall(r"[^\w\s]", summary)], 1.0)
