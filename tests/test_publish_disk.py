"""A set that the disk has no room for: one sentence, and nothing that could be taken for a set."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sgtr_jax.cli.main import main
from sgtr_jax.data.publish import read_records
from sgtr_jax.errors import InputError

LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz "))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Forty rows that do not compress below a hundred thousand bytes."""
    rng, path = np.random.default_rng(0), tmp_path / "rows.jsonl"
    with path.open("w") as stream:
        for _ in range(40):
            asked = {"role": "user", "content": "".join(rng.choice(LETTERS, 5000))}
            stream.write(json.dumps({"messages": [asked, {"role": "assistant", "content": "Yes."}]}) + "\n")
    return path


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The system writes no file beyond so many bytes: EFBIG, where a full disk gives ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# The rows do not fit; of the descriptions, one does not.
@pytest.mark.parametrize("size", [60_000, 1000])
def test_no_room_is_said_and_nothing_half_written_is_a_set(
    rows: Path, size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if size == 1000:
        rows.write_text(rows.read_text().splitlines()[0][:60] + '"}, {"role": "assistant", "content": "Yes."}]}\n')
    words = ["data", "publish", str(rows), "--to", str(tmp_path / "sets")]
    with no_file_above(size):
        assert main(words) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == f"sgtr: failed: {tmp_path}/sets/rows: could not be written: File too large"
    assert not [path for path in (tmp_path / "sets").rglob("*") if path.is_file()]
    with pytest.raises(InputError, match="no published set here"):
        read_records(str(tmp_path / "sets" / "rows"))
    # Once there is room the same command does.
    assert main(words) == 0
    assert len(read_records(str(tmp_path / "sets" / "rows"))) == len(rows.read_text().splitlines())
