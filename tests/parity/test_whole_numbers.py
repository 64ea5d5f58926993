"""A judge of ours against transformers in float64: each number from 0 to 100 by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tiny import make_model
from whole_numbers import check_whole_numbers

from sgtr_jax.sample.model import load_model


def test_the_distribution_is_that_of_transformers(tmp_path: Path) -> None:
    make_model(tmp_path)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)

    def logits(tokens: list[int]) -> Any:
        with torch.no_grad():
            return reference(torch.tensor([tokens])).logits[0].numpy()

    check_whole_numbers(load_model(str(tmp_path), "float32"), logits)
