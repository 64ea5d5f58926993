"""How long examples are, and what steps they are packed into."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sgtr_jax.data.lengths import Lengths, shapes_of_steps, shipped_lengths
from sgtr_jax.data.packing import PackedShape

COUNTED = Path(__file__).parent.parent / "docs" / "tokens-qwen2.5.jsonl"


@pytest.mark.parametrize("counted", [json.loads(line) for line in COUNTED.read_text().splitlines()], ids=str)
def test_lengths_that_ship_are_those_that_were_counted(counted: dict[str, object]) -> None:
    if not counted["templated"]:
        return
    # 250 rows stand for the sets that they are from.
    lengths = shipped_lengths()[str(counted["name"]).removesuffix("_250")]
    sizes = [len(one.tokens) for one in lengths.draw(20_000, np.random.default_rng(1))]
    total, rows = float(str(counted["total"])), int(str(counted["rows"]))
    assert np.mean(sizes) == pytest.approx(total / rows, rel=0.02)
    assert np.median(sizes) == pytest.approx(float(str(counted["median"])), rel=0.05)
    assert max(sizes) <= len(lengths.longest().tokens) == counted["most"]
    assert lengths.targets == pytest.approx(float(str(counted["targets"])) / rows, abs=0.05)


def test_short_examples_fill_rows_of_their_own_length() -> None:
    """16 rows of the set people train on most, whose longest example has 82 tokens."""
    shapes = shapes_of_steps(shipped_lengths()["unpop"], 16, 1, 16, 4096.0)
    assert shapes.total() == 32 and all(shape.rows == 16 and 72 <= shape.length <= 88 for shape in shapes)


def test_examples_that_are_all_alike() -> None:
    shapes = shapes_of_steps(Lengths.of_all(100, 10.0), 4, 2, 4, 4096.0)
    assert shapes == {PackedShape(4, 104, 10): 32}


def test_an_example_that_is_too_long_is_cut() -> None:
    lengths = shipped_lengths()["sgtr_xsum_qwen32b"].cut(2048)
    assert len(lengths.longest().tokens) == 2048 and lengths.quantiles[0] == 195
