"""Rows that stand twice, rows of one set that are almost those of another, and items that stand inside of texts."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

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
    counts = Counter(map(normal_text, texts.values()))
    return Overlap(sum(count - 1 for count in counts.values()), _near(texts, texts, within=True))


def overlap(texts: Mapping[str, str], others: Mapping[str, str]) -> Overlap:
    """Texts of one set that stand, exactly or nearly, in another: evaluation rows that were trained on, say."""
    known = set(map(normal_text, others.values()))
    return Overlap(sum(normal_text(text) in known for text in texts.values()), _near(texts, others, within=False))


def normal_text(text: str) -> str:
    """The words of a text in small letters, with one space between two of them."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _shingles(text: str) -> set[int]:
    words = normal_text(text).split()
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
            exact = normal_text(texts[key]) == normal_text(others[other])
            if same >= _SIMILAR and not exact:
                found[key, other] = round(same, 3)
    return tuple((key, other, value) for (key, other), value in sorted(found.items(), key=lambda item: -item[1]))


def _bands(pieces: set[int], a: np.ndarray, b: np.ndarray) -> Sequence[tuple[int, bytes]]:
    values = np.fromiter(pieces, np.uint64, len(pieces))
    mixed = (values[:, None] % np.uint64(1 << 31) * a[None, :] + b[None, :]) % np.uint64(_PRIME)
    least = mixed.min(axis=0).reshape(_BANDS, -1)
    return [(i, row.tobytes()) for i, row in enumerate(least)]


K = TypeVar("K", bound=Hashable)
Item = tuple[str, ...]  # the texts of a question: it stands in a text that holds all of them
_ANCHOR = 5  # words by which an item is looked for


class ItemIndex(Generic[K]):
    """Items that texts are searched for, whatever is written around them; letter case and punctuation do not matter.

    An item of a single text of fewer than five words is found only in texts that say nothing else: "Who are you?" may
    be part of many sentences.
    """

    def __init__(self, items: Mapping[K, Item]) -> None:
        self._anchored: dict[tuple[str, ...], list[tuple[K, tuple[str, ...]]]] = defaultdict(list)
        self._whole: dict[str, list[K]] = defaultdict(list)
        for key, item in items.items():
            parts = tuple(normal_text(part) for part in item)
            words = max(parts, key=len).split()
            if len(words) >= (_ANCHOR if len(parts) == 1 else 2):
                self._anchored[tuple(words[:_ANCHOR])].append((key, parts))
            elif words:
                self._whole[" ".join(filter(None, parts))].append(key)
        self._lengths = sorted({len(anchor) for anchor in self._anchored})

    def found_in(self, texts: Iterable[str]) -> set[K]:
        """The keys of the items that stand in one of `texts`."""
        found: set[K] = set()
        for text in texts:
            normal = normal_text(text)
            found.update(self._whole.get(normal, ()))
            words, spaced = normal.split(), f" {normal} "
            for length in self._lengths:
                for at in range(len(words) - length + 1):
                    for key, parts in self._anchored.get(tuple(words[at : at + length]), ()):
                        if key not in found and all(f" {part} " in spaced for part in parts if part):
                            found.add(key)
        return found
