"""Activations of every family against transformers' hidden states, also under an adapter of peft."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import hf_models
from tiny import make_adapter

import sgtr_jax

CASES = [
    "qwen2-gqa4", "seed-all-biases", "qwen3-headdim", "llama3-tied", "olmo2-gqa2", "olmo3-yarn", "mistral-window",
    "gemma3-untied",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_activations(case: str, tmp_path: Path) -> None:
    theirs = hf_models.make(case, tmp_path / "m")
    ours = sgtr_jax.load_model(tmp_path / "m")
    make_adapter(tmp_path / "a", ours.spec, seed=3, size=0.1)
    tokens = np.random.default_rng(0).integers(3, 97, (3, 11))
    mask = np.ones((3, 11), bool)
    mask[1, 7:] = False
    given = {"input_ids": torch.tensor(tokens), "attention_mask": torch.tensor(mask.astype(np.int64))}
    normed: list[np.ndarray] = []
    theirs.model.norm.register_forward_pre_hook(lambda _, inputs: normed.append(inputs[0].detach().numpy()))
    for model, under in ((ours, None), (ours.with_adapter(tmp_path / "a"), tmp_path / "a")):
        # peft puts its adapter into the model that it is given.
        reference = theirs if under is None else peft.PeftModel.from_pretrained(theirs, str(under))
        with torch.no_grad():
            out = reference(**given, output_hidden_states=True)
        wanted = np.stack([*(state.numpy() for state in out.hidden_states[1:-1]), normed[-1]], axis=1)
        found = model.activations(tokens, mask)
        # Gemma's residual stream is tens of times larger than the others'.
        scale = max(1.0, float(np.abs(wanted).max()) / 10)
        np.testing.assert_allclose(found, np.where(mask[:, None, :, None], wanted, 0), atol=1e-4 * scale, rtol=0)
