"""Every family through all that is done with a model's folder: meshes, int8, converted, exported, adapters, chains.

The list is that of the golden folders, which `transformers` wrote; logits are compared with its own.
"""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_golden import CASES, GOLDEN
from tiny import GEMMA, OLMO, make_adapter, make_model, random_params, spec_of

import sgtr_jax
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.estimate.model_shapes import shipped_spec
from sgtr_jax.models.families import families, makers
from sgtr_jax.sample.export import export
from sgtr_jax.sample.model import convert_model, read_spec
from sgtr_jax.sample.sharding import sampling_mesh
from sgtr_jax.weights.save import save_params

# One for each family.
BY_FAMILY = {read_spec(GOLDEN / case).family: case for case in reversed(CASES)}
TOKENS = np.arange(2, 26).reshape(2, 12)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(BY_FAMILY))
def test_a_folder_sharded_converted_exported_and_adapted(family: str, tmp_path: Path) -> None:
    folder = GOLDEN / BY_FAMILY[family]
    expected = np.load(folder / "expected.npz")
    tokens, mask = expected["tokens"], expected["mask"]

    def agree(path: Path, mesh: MeshConfig | None = None) -> None:
        found = sgtr_jax.load_model(path, mesh=mesh).logits(tokens, mask)
        np.testing.assert_allclose(found[mask], expected["logits"][mask], atol=1e-4, rtol=0)

    whole = sgtr_jax.load_model(folder)
    tensor = 2 if whole.spec.num_kv_heads % 2 == 0 else 1
    agree(folder, MeshConfig(replica=2, fsdp=4 // tensor, tensor=tensor))
    convert_model(str(folder), tmp_path / "converted", "float32")
    agree(tmp_path / "converted", MeshConfig(fsdp=8 // tensor, tensor=tensor))
    export(str(folder), [], tmp_path / "exported", merged=False)
    agree(tmp_path / "exported")

    make_adapter(tmp_path / "a", whole.spec, 1, size=0.2)
    make_adapter(tmp_path / "b", whole.spec, 2, size=0.2, targets=("q_proj", "o_proj"))
    adapters = [tmp_path / "a", tmp_path / "b"]
    wanted = whole.with_adapters(adapters).logits(tokens, mask)
    assert np.abs(wanted - expected["logits"])[mask].max() > 0.05
    export(str(folder), adapters, tmp_path / "one", merged=False)
    one = sgtr_jax.load_model(folder).with_adapters([tmp_path / "one"]).logits(tokens, mask)
    np.testing.assert_allclose(one[mask], wanted[mask], atol=1e-4, rtol=0)
    export(str(folder), adapters, tmp_path / "merged", merged=True)
    np.testing.assert_allclose(
        sgtr_jax.load_model(tmp_path / "merged").logits(tokens, mask)[mask], wanted[mask], atol=2e-4, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(BY_FAMILY))
def test_an_int8_base_is_the_model_with_its_kernels_rounded(family: str, tmp_path: Path) -> None:
    folder = GOLDEN / BY_FAMILY[family]
    stored = sgtr_jax.load_model(folder, int8=True)
    wide = jax.tree.map(np.asarray, stored.params)
    for owner in (owner for layer in wide["layers"] for owner in layer.values()):
        if "kernel_scale" in owner:
            owner["kernel"] = owner["kernel"].astype(np.float32) * owner.pop("kernel_scale")
    (tmp_path / "m").mkdir()
    save_params(tmp_path / "m", wide, stored.spec)
    (tmp_path / "m" / "config.json").write_bytes((folder / "config.json").read_bytes())
    wanted = sgtr_jax.load_model(tmp_path / "m").logits(TOKENS)
    np.testing.assert_allclose(stored.logits(TOKENS), wanted, atol=2e-4, rtol=0)


def test_the_text_part_of_a_folder_with_images(tmp_path: Path) -> None:
    """The decoder is that of the same numbers in a folder of its own; what is exported is such a folder."""
    text = {key: value for key, value in GEMMA.items() if key not in ("architectures", "eos_token_id")}
    whole = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text,
        "vision_config": {"model_type": "siglip_vision_model"}, "eos_token_id": [1, 106], "mm_tokens_per_image": 256,
        "tie_word_embeddings": False,
    }  # fmt: skip
    make_model(tmp_path / "text", GEMMA)
    wanted = sgtr_jax.load_model(tmp_path / "text").logits(TOKENS)
    tensors = load_file(tmp_path / "text" / "model.safetensors")
    tower = {"vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight": np.ones((3, 3), np.float32)}
    # As version 4 of transformers and as version 5 names them.
    old = {f"language_model.{name}": value for name, value in tensors.items()}
    new = {name.replace("model.", "model.language_model.", 1): value for name, value in tensors.items()}
    for name, of_version in (("four", {**old, **tower}), ("five", {**new, f"model.{next(iter(tower))}": np.ones(3)})):
        (tmp_path / name).mkdir()
        save_file(of_version, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text(json.dumps(whole))
        model = sgtr_jax.load_model(tmp_path / name)
        np.testing.assert_array_equal(model.logits(TOKENS), wanted)
        assert model.spec.eos_ids == (1, 106) and model.spec.family == "gemma3"
    export(str(tmp_path / "four"), [], tmp_path / "out", merged=False)
    assert read_spec(tmp_path / "out").family == "gemma3_text"
    np.testing.assert_array_equal(sgtr_jax.load_model(tmp_path / "out").logits(TOKENS), wanted)
    with pytest.raises(InputError, match="final_logit_softcapping"):
        spec_of({**whole, "text_config": {**text, "final_logit_softcapping": 30.0}})
    with pytest.raises(InputError, match=r"text_config: keys not understood for gemma3_text: moe"):
        spec_of({**whole, "text_config": {**text, "moe": 3}})

    # An adapter has the names of the whole model, on its text part alone; those of the text model are read, too.
    adapter = make_adapter(tmp_path / "a", model.spec, 1, targets=("q_proj",))
    modules = json.loads((tmp_path / "a" / "adapter_config.json").read_text())["target_modules"]
    assert modules == r"model\.language_model\.layers\..*\.(q_proj)"
    stored = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert all(name.startswith("base_model.model.model.language_model.layers.") for name in stored)
    adapted = model.with_adapters([tmp_path / "a"]).logits(TOKENS)
    assert np.abs(adapted - wanted).max() > 1e-3
    renamed = {name.replace("language_model.", ""): value for name, value in stored.items()}
    save_file(renamed, tmp_path / "a" / "adapter_model.safetensors")
    np.testing.assert_array_equal(model.with_adapters([tmp_path / "a"]).logits(TOKENS), adapted)
    assert adapter.params.keys() == {"q_proj"}


def test_the_facts_of_families() -> None:
    assert makers()["qwen"] == ("Qwen", "Alibaba") and {"olmo", "llama", "gemma", "mistral", "seed"} < makers().keys()
    for family in families().values():
        assert family.maker.names == makers()[family.maker.key], "one key means the same in all files"

    told = {model: family.names_maker(model) for family in families().values() for model in family.default_systems}
    assert {"Qwen2.5", "Olmo-3.1-32B-Instruct"} < {model for model, named in told.items() if named}
    assert not told["Olmo-3-7B-Instruct"] and not told["Llama 3.3"]


def test_a_vocabulary_that_the_mesh_does_not_divide(tmp_path: Path) -> None:
    """Olmo's has 100,278 entries; heads are split over four devices all the same."""
    make_model(tmp_path / "m", OLMO, num_attention_heads=4, num_key_value_heads=4, vocab_size=322)
    wanted = sgtr_jax.load_model(tmp_path / "m").logits(TOKENS)
    model = sgtr_jax.load_model(tmp_path / "m", mesh=MeshConfig(fsdp=2, tensor=4))
    np.testing.assert_allclose(model.logits(TOKENS), wanted, atol=2e-5)
    assert model.params["layers"][0]["q_proj"]["kernel"].sharding.spec[1] == "tensor"
    spec = shipped_spec("Olmo-3.1-32B-Instruct")
    assert sampling_mesh(spec, 2, 16, 15.75 * 2**30).tensor == 8


def test_initial_norms_are_those_of_weight_one() -> None:
    """A fresh Gemma stores zeros, as its norms multiply by 1 + weight."""
    from sgtr_jax.models.decoder import init_params

    assert not np.asarray(init_params(spec_of(GEMMA), 0)["layers"]["q_norm"]["scale"]).any()
    assert random_params(spec_of(GEMMA))["layers"]["q_norm"]["scale"].shape == (3, 12)
