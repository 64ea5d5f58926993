"""The decoder against what `transformers` computed; `tests/golden/make.py` made the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sgtr_jax
from sgtr_jax.models.families import families
from sgtr_jax.sample.model import read_spec

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz"))


def test_the_cases_cover_all_families_and_all_head_ratios() -> None:
    specs = [read_spec(GOLDEN / case) for case in CASES]
    # The text part of a gemma3 folder is a gemma3_text.
    assert {spec.family for spec in specs} == families().keys() - {"gemma3"}
    windows = [{kind.window for kind in spec.pattern} for spec in specs]
    assert any(len(of_model) == 2 for of_model in windows) and any(None not in of_model for of_model in windows)
    assert {spec.num_heads // spec.num_kv_heads for spec in specs} >= {1, 4, 7, 10}
    assert {spec.tie_embeddings for spec in specs} == {True, False}
    assert {spec.out_bias for spec in specs} == {True, False}


@pytest.mark.parametrize("case", CASES)
def test_logits_with_ragged_padding(case: str) -> None:
    expected = np.load(GOLDEN / case / "expected.npz")
    model = sgtr_jax.load_model(GOLDEN / case, dtype="float32")
    logits = model.logits(expected["tokens"], expected["mask"])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits[expected["mask"]], expected["logits"][expected["mask"]], atol=1e-4, rtol=0)
    # Padding on the left instead changes nothing either.
    left_tokens, left_mask = expected["tokens"].copy(), expected["mask"].copy()
    for row, real in enumerate(expected["mask"].sum(axis=1)):
        left_tokens[row] = np.roll(left_tokens[row], 17 - real)
        left_mask[row] = np.roll(left_mask[row], 17 - real)
    left = model.logits(left_tokens, left_mask)
    np.testing.assert_allclose(left[left_mask], logits[expected["mask"]], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_greedy_generation_of_ragged_prompts_together(case: str) -> None:
    expected = np.load(GOLDEN / case / "expected.npz")
    model = sgtr_jax.load_model(GOLDEN / case)
    prompts = [expected[f"prompt{i}"].tolist() for i in range(4)]
    generated = model.generate(prompts, 12)
    assert generated == [expected[f"generated{i}"].tolist() for i in range(4)]
    # A stop id ends the row and is not part of it.
    stop = generated[1][5]
    cut = model.generate(prompts, 12, stop_ids=(stop,))[1]
    assert cut == generated[1][: generated[1].index(stop)]
