"""Token ids of large sets, kept by content: the same rows under the same template are tokenised once."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sgtr_jax.data.chat import ChatFormat, Tokenized
from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError
from sgtr_jax.files import user_cache, write_bytes

_WORTH_KEEPING = 1000  # rows


def tokenize_all(records: Sequence[Record], chat: ChatFormat) -> list[Tokenized]:
    """Token ids and targets of every record, on all cores, or as they were found the last time.

    Raises InputError naming the record that the template cannot render.
    """
    path = _path(records, chat) if len(records) >= _WORTH_KEEPING else None
    if path is not None and (kept := _read(path, len(records))) is not None:
        return kept
    segments = []
    for record in records:
        try:
            segments.append(chat.segments(record.messages))
        except InputError as error:
            raise InputError(f"{record.id}: {error}") from None
    tokenized = chat.tokenize_segments(segments)
    if path is not None:
        write_bytes(path, _packed(tokenized))
    return tokenized


def _path(records: Sequence[Record], chat: ChatFormat) -> Path:
    digest = hashlib.sha256(chat.fingerprint.encode())
    for record in records:
        digest.update(json.dumps(list(record.messages), sort_keys=True).encode() + b"\n")
    return user_cache() / "tokens" / f"{digest.hexdigest()[:32]}.npz"


def _packed(tokenized: Sequence[Tokenized]) -> bytes:
    out = io.BytesIO()
    np.savez(
        out,
        lengths=np.asarray([len(one.tokens) for one in tokenized], np.int32),
        tokens=np.asarray([token for one in tokenized for token in one.tokens], np.int32),
        target=np.asarray([wanted for one in tokenized for wanted in one.target], bool),
    )
    return out.getvalue()


def _read(path: Path, rows: int) -> list[Tokenized] | None:
    """What was kept, or None if there is nothing or it is damaged: it can be made again."""
    try:
        with np.load(path) as kept:
            ends = np.cumsum(kept["lengths"])
            tokens, target = np.split(kept["tokens"], ends[:-1]), np.split(kept["target"], ends[:-1])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if len(tokens) != rows:
        return None
    return [Tokenized(t.tolist(), w.tolist()) for t, w in zip(tokens, target, strict=True)]
