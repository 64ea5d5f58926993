"""Hugging Face folders in and out, converted folders, and every way a folder can be damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import QWEN, SEED, make_model, random_params

import sgtr_jax
from sgtr_jax.distributed.mesh import make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.sample.model import convert_model
from sgtr_jax.weights.load import load_params
from sgtr_jax.weights.save import save_params

TOKENS = np.arange(40).reshape(2, 20) % 300


def tree_equal(a: Any, b: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


@pytest.mark.parametrize("config", [QWEN, SEED, {**QWEN, "tie_word_embeddings": True}], ids=["qwen", "seed", "tied"])
def test_saved_shards_load_to_the_same_parameters(tmp_path: Path, config: dict[str, Any]) -> None:
    spec = spec_from_config(config, "c")
    params = random_params(spec)
    save_params(tmp_path, params, spec, max_shard_bytes=30_000)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2 and all(f"of-{len(shards):05d}" in shard.name for shard in shards)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    held = {name: shard.name for shard in shards for name in load_file(shard)}
    assert index["weight_map"] == held
    assert ("lm_head.weight" in held) is not spec.tie_embeddings
    from sgtr_jax.distributed.mesh import SAMPLING, TRAINING

    for rules, mesh in ((SAMPLING, MeshConfig(tensor=2)), (TRAINING, MeshConfig(replica=2, tensor=2))):
        loaded = load_params(tmp_path, spec, make_mesh(mesh), rules, np.float32)
        tree_equal(loaded, params)


def test_loading_never_copies_a_whole_stacked_parameter_per_device(tmp_path: Path) -> None:
    """Each device asks for its slice; what is built on the host has the slice's size."""
    spec = make_model(tmp_path, num_attention_heads=8, num_key_value_heads=8)
    from sgtr_jax.distributed.mesh import TRAINING
    from sgtr_jax.weights import load

    built: list[int] = []
    original = load._read_shard

    def spy(*args: Any) -> np.ndarray:
        part = original(*args)
        built.append(part.nbytes)
        return part

    try:
        load._read_shard = spy  # type: ignore[assignment]
        params = load_params(tmp_path, spec, make_mesh(MeshConfig(fsdp=4, tensor=2)), TRAINING, np.float32)
    finally:
        load._read_shard = original  # type: ignore[assignment]
    kernel = params["layers"]["gate_proj"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (2, 8, 32)
    largest = max(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert max(built) <= largest // 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_converted_folder_is_a_model_on_any_mesh(tmp_path: Path, dtype: str) -> None:
    make_model(tmp_path / "hf", SEED)
    convert_model(str(tmp_path / "hf"), tmp_path / "converted", dtype)
    assert not list(tmp_path.glob(".tmp-*"))
    wanted = sgtr_jax.load_model(tmp_path / "hf", dtype).logits(TOKENS)
    for mesh in (None, MeshConfig(tensor=2), MeshConfig(replica=2, fsdp=2, tensor=2)):
        model = sgtr_jax.load_model(tmp_path / "converted", dtype, mesh=mesh)
        np.testing.assert_allclose(model.logits(TOKENS), wanted, atol=1e-5 if dtype == "float32" else 0.05)
    assert model.tokenizer.encode("I like", add_special_tokens=False)
    with pytest.raises(InputError, match="already converted"):
        convert_model(str(tmp_path / "converted"), tmp_path / "again", None)


def _edit(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _index_alone(folder: Path, text: str) -> None:
    (folder / "model.safetensors").unlink()  # it would be read before an index
    (folder / "model.safetensors.index.json").write_text(text)


K = "model.layers.1.self_attn.k_proj.weight"


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda f: (f / "config.json").unlink(), ["no config.json"]),
        (lambda f: (f / "config.json").write_text("{"), ["config.json", "JSON"]),
        (
            lambda f: (f / "config.json").write_text(json.dumps({**QWEN, "model_type": "gpt9"})),
            ["gpt9", "qwen2", "config.json"],
        ),
        (lambda f: (f / "model.safetensors").unlink(), ["no model.safetensors"]),
        (lambda f: _edit(f, lambda t: t.pop(K)), ["is missing", K]),
        (lambda f: _edit(f, lambda t: t.update({K + "x": t[K]})), ["does not belong", K + "x", "model.safetensors"]),
        (lambda f: _edit(f, lambda t: t.update({K: t[K][:-1].copy()})), ["shape [15, 32], expected [16, 32]", K]),
        (lambda f: _edit(f, lambda t: t.update({K: t[K].astype(np.int32)})), ["I32", K]),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-1000]),
            ["model.safetensors", "truncated", "tensor"],
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x10\x00"), ["truncated inside its header"]),
        (lambda f: (f / "model.safetensors").write_bytes(b""), ["0 bytes"]),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"{x"), ["not valid JSON"]),
        (
            lambda f: _index_alone(f, '{"weight_map": {"a": "b.safetensors"}}'),
            ["b.safetensors", "missing"],
        ),
        (lambda f: _index_alone(f, "{}"), ["weight_map"]),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Any, parts: list[str]) -> None:
    folder = tmp_path / "m"
    make_model(folder)
    damage(folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        convert_model(str(folder), tmp_path / "out", None)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


def test_a_damaged_converted_folder_is_named(tmp_path: Path) -> None:
    make_model(tmp_path / "hf")
    convert_model(str(tmp_path / "hf"), tmp_path / "c", None)
    shutil.rmtree(tmp_path / "c" / "params" / "layers.q_proj.kernel")
    with pytest.raises(InputError, match=r"layers\.q_proj\.kernel: the parameter is missing"):
        sgtr_jax.load_model(tmp_path / "c")


@pytest.mark.parametrize("name", ["no/such/folder/at/all", "./nowhere", "plainword"])
def test_a_model_that_is_nowhere(name: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        sgtr_jax.load_model(name)


def test_a_folder_without_a_tokenizer_still_gives_logits(tmp_path: Path) -> None:
    make_model(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    model = sgtr_jax.load_model(tmp_path)
    assert model.logits(TOKENS).shape == (2, 20, 320)
    assert len(model.generate([[5, 6]], 3)[0]) == 3
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        _ = model.tokenizer
    with pytest.raises(InputError, match="vocabulary has 320"):
        model.logits([[320]])
    with pytest.raises(InputError, match=r"expected \[batch, length\]"):
        model.logits([1, 2])
    with pytest.raises(InputError, match="no tokens"):
        model.generate([[]], 3)
    with pytest.raises(InputError, match="512"):
        model.generate([[1] * 510], 3)
    with pytest.raises(InputError, match="float16"):
        sgtr_jax.load_model(tmp_path, dtype="float16")
