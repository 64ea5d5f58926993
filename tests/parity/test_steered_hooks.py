"""Steered greedy decoding against torch's forward hooks, token for token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import hf_models

import sgtr_jax


def theirs(model: Any, prompt: list[int], tokens: int, steer: dict[str, Any], vectors: np.ndarray) -> list[int]:
    """Greedy tokens with a hook on the layer, whole passes without a cache."""
    vector = torch.tensor(vectors[steer["layer"]])

    def hook(_: Any, __: Any, out: Any) -> Any:
        x = out[0] if isinstance(out, tuple) else out
        if steer.get("project") == "out":
            unit = vector / vector.norm()
            changed = x - (x @ unit)[..., None] * unit
        else:
            changed = x + steer["scale"] * vector
        if steer.get("at") == "answer":
            changed = torch.cat([x[:, : len(prompt)], changed[:, len(prompt) :]], dim=1)
        return (changed, *out[1:]) if isinstance(out, tuple) else changed

    handle = model.model.layers[steer["layer"]].register_forward_hook(hook)
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(tokens):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    handle.remove()
    return ids[len(prompt) :]


@pytest.mark.parametrize("case", ["qwen2-gqa4", "seed-all-biases", "gemma3-untied", "olmo3-yarn"])
def test_hooks(case: str, tmp_path: Path) -> None:
    model = hf_models.make(case, tmp_path / "m")
    ours = sgtr_jax.load_model(tmp_path / "m")
    vectors = np.random.default_rng(1).standard_normal((ours.spec.num_layers, ours.spec.hidden_size)).astype(np.float32)
    rows: list[dict[str, Any]] = [
        *({"layer": layer, "scale": scale} for layer in (0, 2) for scale in (-4.0, 1.5)),
        {"layer": 1, "scale": 3.0, "at": "answer"},
        {"layer": 1, "project": "out"},
        {"layer": 0, "project": "out", "at": "answer"},
    ]
    prompts = [[5, 17, 40, 8], [9, 9, 61]]
    asked = [(prompt, row) for prompt in prompts for row in rows]
    found = ours.generate(
        [prompt for prompt, _ in asked],
        8,
        steer=[{**row, "direction": vectors} for _, row in asked],  # type: ignore[typeddict-item]
    )
    wanted = [theirs(model, prompt, 8, row, vectors) for prompt, row in asked]
    assert found == wanted
    assert len({tuple(one) for one in wanted}) > 6
