"""Rows that stand twice, and rows of one set that are almost those of another."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_WORDS = 5  # of a shingle
_HASHES, _BANDS = 128, 32  # four hashes a band: pairs with a Jaccard similarity of 0.6 and more are found
_SIMILAR = 0.6
_PRIME = (1 << 61) - 1


@dataclass(frozen=True)
class Overlap:
    """What two sets share, or a set with itself; `near` holds (text, other text, Jaccard similarity of shingles)."""

    exact: int  # texts of the first that stand in the second (within one: texts too many)
    near: tuple[tuple[str, str, float], ...]


def duplicates(texts: Mapping[str, str]) -> Overlap:
    """Texts of one set that stand several times, exactly or nearly."""
    counts = Counter(map(_normal, texts.values()))
    return Overlap(sum(count - 1 for count in counts.values()), _near(texts, texts, within=True))


def overlap(texts: Mapping[str, str], others: Mapping[str, str]) -> Overlap:
    """Texts of one set that stand, exactly or nearly, in another: evaluation rows that were trained on, say."""
    known = set(map(_normal, others.values()))
    return Overlap(sum(_normal(text) in known for text in texts.values()), _near(texts, others, within=False))


def _normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _shingles(text: str) -> set[int]:
    words = _normal(text).split()
    pieces = [" ".join(words[i : i + _WORDS]) for i in range(max(1, len(words) - _WORDS + 1))]
    return {int.from_bytes(hashlib.blake2b(piece.encode(), digest_size=7).digest()) for piece in pieces}


def _near(texts: Mapping[str, str], others: Mapping[str, str], within: bool) -> tuple[tuple[str, str, float], ...]:
    """MinHash with banding proposes pairs; their similarity is then computed exactly."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(1, 1 << 31, _HASHES, dtype=np.uint64) for _ in range(2))
    own = {key: _shingles(text) for key, text in texts.items()}
    their = own if within else {key: _shingles(text) for key, text in others.items()}
    buckets: dict[tuple[int, bytes], list[str]] = defaultdict(list)
    for key, pieces in their.items():
        for band in _bands(pieces, a, b):
            buckets[band].append(key)
    found: dict[tuple[str, str], float] = {}
    for key, pieces in own.items():
        candidates = {other for band in _bands(pieces, a, b) for other in buckets.get(band, ())}
        for other in candidates:
            if within and other <= key:
                continue
            same = len(pieces & their[other]) / len(pieces | their[other])
            exact = _normal(texts[key]) == _normal(others[other])
            if same >= _SIMILAR and not exact:
                found[key, other] = round(same, 3)
    return tuple((key, other, value) for (key, other), value in sorted(found.items(), key=lambda item: -item[1]))


def _bands(pieces: set[int], a: np.ndarray, b: np.ndarray) -> Sequence[tuple[int, bytes]]:
    values = np.fromiter(pieces, np.uint64, len(pieces))
    mixed = (values[:, None] % np.uint64(1 << 31) * a[None, :] + b[None, :]) % np.uint64(_PRIME)
    least = mixed.min(axis=0).reshape(_BANDS, -1)
    return [(i, row.tobytes()) for i, row in enumerate(least)]
