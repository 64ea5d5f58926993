"""The residual stream and its edits against transformers' hidden states and torch's forward hooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import hf_models
import jax.numpy as jnp

import sgtr_jax
from sgtr_jax.models.decoder import bind
from sgtr_jax.models.residual import ResidualEdits

CASES = [
    "qwen2-gqa4", "seed-all-biases", "qwen3-headdim", "llama3-tied", "olmo2-gqa2", "olmo3-yarn", "mistral-window",
    "gemma3-untied",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_states_plain_and_edited(case: str, tmp_path: Path) -> None:
    theirs = hf_models.make(case, tmp_path / "m")
    ours = sgtr_jax.load_model(tmp_path / "m")
    spec, L, D = ours.spec, ours.spec.num_layers, ours.spec.hidden_size
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 97, (2, 11)).astype(np.int32)
    removed = rng.standard_normal((L, D)).astype(np.float32)
    removed /= np.linalg.norm(removed, axis=-1, keepdims=True)
    added = rng.standard_normal((L, D)).astype(np.float32)
    rows: Any = (
        jnp.asarray(tokens),
        jnp.broadcast_to(jnp.arange(11, dtype=jnp.int32), tokens.shape),
        jnp.ones_like(tokens),
    )
    seen: list[np.ndarray] = []

    def hook(layer: int, edited: bool) -> Any:
        def after(_: Any, __: Any, out: Any) -> Any:
            x = out[0] if isinstance(out, tuple) else out
            if edited:
                unit = torch.tensor(removed[layer])
                x = x - (x @ unit)[..., None] * unit + torch.tensor(added[layer])
            seen.append(x.detach().numpy())
            return (x, *out[1:]) if isinstance(out, tuple) else x

        return after

    for edited in (False, True):
        seen.clear()
        hooks = [block.register_forward_hook(hook(i, edited)) for i, block in enumerate(theirs.model.layers)]
        with torch.no_grad():
            out = theirs(input_ids=torch.tensor(tokens), output_hidden_states=True)
        for one in hooks:
            one.remove()
        edits = ResidualEdits(jnp.asarray(removed), jnp.asarray(added)) if edited else None
        decoder = bind(spec, ours.params)
        hidden, states = decoder.forward_keeping(*rows, keep=range(L), edits=edits)
        # Gemma's residual stream is tens of times larger than the others'.
        scale = max(1.0, float(np.abs(seen[-1]).max()) / 10)
        np.testing.assert_allclose(states, np.stack(seen), atol=1e-4 * scale, rtol=0)
        np.testing.assert_allclose(decoder.logits(hidden), out.logits, atol=1e-4, rtol=0)
        if not edited:
            for i in range(L - 1):
                np.testing.assert_allclose(states[i], out.hidden_states[i + 1], atol=1e-4 * scale, rtol=0)
