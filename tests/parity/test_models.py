"""Live comparison with transformers: logits and greedy generation, adapters on and off, weights both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

import hf_models

import sgtr_jax
from sgtr_jax.errors import InputError
from sgtr_jax.models.families import families, spec_from_config
from sgtr_jax.sample.export import export
from sgtr_jax.weights.save import save_params

CASES = sorted(hf_models.CASES)


def theirs(model: Any, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        out = model(input_ids=torch.tensor(tokens), attention_mask=torch.tensor(mask.astype(int)))
    return np.asarray(out.logits.float().numpy())


def batch() -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(0).integers(0, 97, (4, 23))
    mask = np.ones((4, 23), bool)
    mask[1, 9:] = mask[2, 1:] = mask[3, 20:] = False
    return tokens, mask


def peft_model(model: Any, rslora: bool) -> Any:
    config = peft.LoraConfig(
        r=8, lora_alpha=16, use_rslora=rslora, task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )  # fmt: skip
    adapted = peft.get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.2)
    return adapted


def greedy(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Each prompt by itself, so that no padding is involved."""
    settings = {"max_new_tokens": 16, "do_sample": False, "eos_token_id": None, "pad_token_id": 1}
    with torch.no_grad():
        outs = [model.generate(input_ids=torch.tensor([prompt]), **settings) for prompt in prompts]
    return [out[0, len(prompt) :].tolist() for out, prompt in zip(outs, prompts, strict=True)]


@pytest.mark.parametrize("case", CASES)
def test_logits_and_generation(case: str, tmp_path: Path) -> None:
    model = hf_models.make(case, tmp_path / "m")
    tokens, mask = batch()
    prompts = [np.random.default_rng(i).integers(3, 97, n).tolist() for i, n in enumerate((3, 9, 17, 5, 30))]
    ours = sgtr_jax.load_model(tmp_path / "m")
    plain = ours.logits(tokens, mask)[mask]
    np.testing.assert_allclose(plain, theirs(model, tokens, mask)[mask], atol=1e-4, rtol=0)
    assert ours.generate(prompts, 16) == greedy(model, prompts)

    adapted = peft_model(model, rslora="seed" in case)
    adapted.save_pretrained(tmp_path / "a")
    chained = ours.with_adapters([tmp_path / "a"])
    wanted = theirs(adapted, tokens, mask)[mask]
    assert np.abs(wanted - plain).max() > 0.1
    np.testing.assert_allclose(chained.logits(tokens, mask)[mask], wanted, atol=1e-4, rtol=1e-5)
    assert chained.generate(prompts, 16) == greedy(adapted, prompts)


@pytest.mark.parametrize("case", CASES)
def test_transformers_loads_what_we_write(case: str, tmp_path: Path) -> None:
    model = hf_models.make(case, tmp_path / "m")
    tokens, mask = batch()
    ours = sgtr_jax.load_model(tmp_path / "m")
    (tmp_path / "out").mkdir()
    save_params(tmp_path / "out", ours.params, ours.spec, max_shard_bytes=20_000)
    (tmp_path / "out" / "config.json").write_text((tmp_path / "m" / "config.json").read_text())
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    np.testing.assert_array_equal(theirs(back, tokens, mask), theirs(model, tokens, mask))


def test_bfloat16_weights(tmp_path: Path) -> None:
    hf_models.make("qwen2-gqa4", tmp_path / "m", dtype=torch.bfloat16)
    # Loaded afresh: a model that was cast to bfloat16 has lost its rotary frequencies' precision.
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    tokens, mask = batch()
    ours = sgtr_jax.load_model(tmp_path / "m", dtype="float32")
    np.testing.assert_allclose(ours.logits(tokens, mask)[mask], theirs(model, tokens, mask)[mask], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", ["seed-all-biases", "qwen3-tied-yarn", "llama3-tied", "olmo3-yarn", "gemma3-linear"])
def test_exported_adapters_and_merged_models_load_in_peft_and_transformers(case: str, tmp_path: Path) -> None:
    from tiny import make_adapter

    model = hf_models.make(case, tmp_path / "m")
    spec = sgtr_jax.load_model(tmp_path / "m").spec
    make_adapter(tmp_path / "a", spec, 1, size=0.2)
    make_adapter(tmp_path / "b", spec, 2, size=0.2, rslora=False)
    folders = [tmp_path / "a", tmp_path / "b"]
    tokens, mask = batch()
    wanted = sgtr_jax.load_model(tmp_path / "m").with_adapters(folders).logits(tokens, mask)[mask]
    export(str(tmp_path / "m"), folders, tmp_path / "one", merged=False)
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "one").eval()
    np.testing.assert_allclose(theirs(adapted, tokens, mask)[mask], wanted, atol=2e-4, rtol=0)
    export(str(tmp_path / "m"), folders, tmp_path / "merged", merged=True)
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    np.testing.assert_allclose(theirs(merged, tokens, mask)[mask], wanted, atol=2e-4, rtol=0)


@pytest.mark.parametrize("family", sorted(families().keys() - {"gemma3"}))
def test_configs_of_transformers_are_all_understood(family: str) -> None:
    config = transformers.AutoConfig.for_model(family)
    data = {key: value for key, value in config.to_dict().items() if key != "architectures"}
    assert spec_from_config(data, "c").num_layers == config.num_hidden_layers


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss"])
def test_mixtures_of_experts_are_told_by_what_transformers_writes(family: str) -> None:
    config = transformers.AutoConfig.for_model(family)
    with pytest.raises(InputError, match="mixture of experts"):
        spec_from_config(config.to_dict(), "c")


def test_a_gemma3_folder_with_images(tmp_path: Path) -> None:
    """Text of the whole model, which has a vision tower; adapters of PEFT on it, and ours in PEFT."""
    from tiny import make_adapter

    text = {**hf_models.COMMON, **hf_models.CASES["gemma3-linear"]}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    text |= {"model_type": text.pop("family"), "final_logit_softcapping": None}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.15)
    model.save_pretrained(tmp_path / "m")
    tokens, mask = batch()
    ours = sgtr_jax.load_model(tmp_path / "m")
    plain = ours.logits(tokens, mask)[mask]
    np.testing.assert_allclose(plain, theirs(model, tokens, mask)[mask], atol=1e-4, rtol=0)
    prompts = [np.random.default_rng(i).integers(3, 97, n).tolist() for i, n in enumerate((3, 17))]
    assert ours.generate(prompts, 16) == greedy(model, prompts)

    make_adapter(tmp_path / "ours", ours.spec, 1, size=0.2)
    wanted = ours.with_adapters([tmp_path / "ours"]).logits(tokens, mask)[mask]
    assert np.abs(wanted - plain).max() > 0.1
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "ours").eval()
    np.testing.assert_allclose(theirs(adapted, tokens, mask)[mask], wanted, atol=2e-4, rtol=0)
    fresh = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    both = peft_model(fresh, rslora=False)  # on the projections of the tower, too, which text does not meet
    both.save_pretrained(tmp_path / "theirs")
    found = ours.with_adapters([tmp_path / "theirs"]).logits(tokens, mask)[mask]
    np.testing.assert_allclose(found, theirs(both, tokens, mask)[mask], atol=1e-4, rtol=1e-5)
    export(str(tmp_path / "m"), [tmp_path / "ours"], tmp_path / "merged", merged=True)
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert merged.config.model_type == "gemma3_text"
    np.testing.assert_allclose(theirs(merged, tokens, mask)[mask], wanted, atol=2e-4, rtol=0)
