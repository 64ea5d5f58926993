"""Adapters: PEFT folders both ways, chains, merging, and adapters that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import QWEN, SEED, make_adapter, make_model, spec_of

import sgtr_jax
from sgtr_jax.distributed.mesh import SAMPLING, make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.lora.adapter import init_adapter
from sgtr_jax.lora.config import LoraConfig
from sgtr_jax.sample.export import export
from sgtr_jax.weights.peft import load_adapter

TOKENS = np.arange(40).reshape(2, 20) % 300


def test_a_fresh_adapter_is_pefts_and_changes_nothing() -> None:
    spec = spec_of()
    adapter = init_adapter(spec, LoraConfig(rank=8), jax.random.key(0))
    for name, (into, out) in spec.projections.items():
        a, b = adapter.params[name]["a"], adapter.params[name]["b"]
        assert a.shape == (2, 8, into) and b.shape == (2, 8, out) and not b.any()
        # kaiming_uniform_(a=sqrt(5)) over fan_in.
        assert abs(a).max() <= into**-0.5 and float(a.std()) == pytest.approx((3 * into) ** -0.5, rel=0.15)
    assert float(adapter.scale) == pytest.approx(64 / 8**0.5)
    assert LoraConfig(rank=8, rslora=False).scale == 8.0


@pytest.mark.parametrize("config", [QWEN, SEED], ids=["qwen", "seed"])
def test_a_folder_keeps_names_and_values(tmp_path: Path, config: dict[str, Any]) -> None:
    spec = spec_of(config)
    written = make_adapter(tmp_path, spec, targets=("q_proj", "down_proj"), rslora=False)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    np.testing.assert_array_equal(tensors[name], np.asarray(written.params["q_proj"]["a"][1]))
    assert len(tensors) == 2 * 2 * 2
    stored = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (stored["r"], stored["lora_alpha"], stored["use_rslora"]) == (4, 8, False)
    loaded, lora = load_adapter(tmp_path, spec, make_mesh(MeshConfig(tensor=2)), SAMPLING)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(loaded.params), jax.device_get(written.params))
    assert lora.targets == ("q_proj", "down_proj") and float(loaded.scale) == 2.0


def test_a_chain_adds_up_merges_and_exports(tmp_path: Path) -> None:
    spec = make_model(tmp_path / "m")
    make_adapter(tmp_path / "a", spec, 1, rank=4)
    make_adapter(tmp_path / "b", spec, 2, rank=2, rslora=False, targets=("v_proj", "up_proj"))
    base = sgtr_jax.load_model(tmp_path / "m")
    chain = base.with_adapters([tmp_path / "a", tmp_path / "b"])
    wanted = chain.logits(TOKENS)
    assert np.abs(wanted - base.logits(TOKENS)).max() > 0.05
    assert np.abs(wanted - base.with_adapters([tmp_path / "a"]).logits(TOKENS)).max() > 0.005
    # The engine samples from the chain as one adapter; what it scores is what the chain says.
    prompts = [TOKENS[0, :7].tolist(), TOKENS[1].tolist()]
    scored = chain.engine.next_token_logprobs(prompts, [range(spec.vocab_size)] * 2)
    direct = jax.nn.log_softmax(wanted[1, -1])
    np.testing.assert_allclose(scored[1], direct, atol=1e-4)

    folders = [tmp_path / "a", tmp_path / "b"]
    assert "rank 6" in export(str(tmp_path / "m"), folders, tmp_path / "one", merged=False)
    one = base.with_adapters([tmp_path / "one"])
    np.testing.assert_allclose(one.logits(TOKENS), wanted, atol=1e-4)

    export(str(tmp_path / "m"), folders, tmp_path / "merged", merged=True)
    merged = sgtr_jax.load_model(tmp_path / "merged")
    np.testing.assert_allclose(merged.logits(TOKENS), wanted, atol=1e-4)
    assert merged.tokenizer.encode("I", add_special_tokens=False)
    with pytest.raises(InputError, match="--merge"):
        export(str(tmp_path / "m"), [], tmp_path / "x", merged=True)


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda f: (f / "adapter_config.json").unlink(), "expected a PEFT adapter folder"),
        (lambda f: _edit(f, peft_type="IA3"), "IA3"),
        (lambda f: _edit(f, use_dora=True), "use_dora"),
        (lambda f: _edit(f, target_modules=".*(q_proj"), "no regular expression"),
        (lambda f: _edit(f, target_modules=["q_proj", "lm_head"]), "lm_head"),
        (lambda f: _edit(f, modules_to_save=["embed_tokens"]), "modules_to_save"),
        (lambda f: _edit(f, r=8), "another base model or rank"),
        (lambda f: _edit(f, r="8"), "r is '8'"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "adapter_model.safetensors"),
    ],
)
def test_adapters_that_do_not_fit(tmp_path: Path, damage: Any, part: str) -> None:
    spec = make_model(tmp_path / "m")
    make_adapter(tmp_path / "a", spec)
    damage(tmp_path / "a")
    with pytest.raises(InputError) as caught:
        sgtr_jax.load_model(tmp_path / "m").with_adapters([tmp_path / "a"])
    assert part in str(caught.value)


def test_an_adapter_of_another_base(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    make_adapter(tmp_path / "a", spec_of(hidden_size=48))
    with pytest.raises(InputError, match="another base model or rank"):
        sgtr_jax.load_model(tmp_path / "m").with_adapters([tmp_path / "a"])
    make_adapter(tmp_path / "deep", spec_of(num_hidden_layers=3))
    with pytest.raises(InputError, match="another base model or rank"):
        sgtr_jax.load_model(tmp_path / "m").with_adapters([tmp_path / "deep"])
