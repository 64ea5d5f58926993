"""Two halves of a set of texts, so that what is trained on is not what an evaluation asks about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from sgtr_jax.data.duplicates import normal_text

# train and held_out have no text in common; published takes all texts, as the study did.
Split = Literal["train", "held_out", "published"]
_SEED = "halves 0"  # another one would divide otherwise


def half(texts: Mapping[str, str], split: Split) -> dict[str, str]:
    """The texts of one half, in their order, or all of them with `published`.

    The half of a text depends on its words alone. The same text has the same half in every set, however many there are.
    """
    if split == "published":
        return dict(texts)
    return {key: text for key, text in texts.items() if _is_held_out(text) == (split == "held_out")}


def _is_held_out(text: str) -> bool:
    return hashlib.sha256(f"{_SEED}\n{normal_text(text)}".encode()).digest()[0] % 2 == 1
