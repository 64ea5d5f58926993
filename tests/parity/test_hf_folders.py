"""Which of a folder's files a model is: the choices of transformers, on folders that transformers wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import hf_models

import sgtr_jax
from sgtr_jax.sample.export import export
from sgtr_jax.sample.model import convert_model

TOKENS = np.random.default_rng(0).integers(0, 97, (2, 11))


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model.float()(input_ids=torch.tensor(TOKENS)).logits.numpy())


def theirs(folder: Path) -> np.ndarray:
    return logits(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())


def agree(folder: Path, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(theirs(folder), wanted, atol=1e-6, rtol=0)
    np.testing.assert_allclose(sgtr_jax.load_model(folder).logits(TOKENS), wanted, atol=2e-5, rtol=0)


def test_a_single_file_beside_the_shards_of_an_earlier_save(tmp_path: Path) -> None:
    old = hf_models.make("qwen2-gqa4", tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    old.save_pretrained(tmp_path / "m", max_shard_size="20KB")
    new = hf_models.make("qwen2-gqa4", tmp_path / "new")
    with torch.no_grad():
        new.model.embed_tokens.weight.mul_(2)
    new.save_pretrained(tmp_path / "new")
    shutil.copy(tmp_path / "new" / "model.safetensors", tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors.index.json").exists()
    assert np.abs(logits(old) - logits(new)).max() > 0.1
    agree(tmp_path / "m", logits(new))


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_head_stored_though_the_config_ties_it(tmp_path: Path, shards: bool, equal: bool, dtype: Any) -> None:
    model = hf_models.make("qwen2-gqa4", tmp_path / "m", dtype=dtype)
    if equal:
        with torch.no_grad():
            model.lm_head.weight.copy_(model.model.embed_tokens.weight)
    shutil.rmtree(tmp_path / "m")
    model.save_pretrained(tmp_path / "m", max_shard_size="20KB" if shards else "5GB")
    path = tmp_path / "m" / "config.json"
    wanted = theirs(tmp_path / "m")
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": True}))
    agree(tmp_path / "m", wanted)
    assert sgtr_jax.load_model(tmp_path / "m").spec.tie_embeddings is equal
    convert_model(str(tmp_path / "m"), tmp_path / "converted", "float32")
    np.testing.assert_allclose(sgtr_jax.load_model(tmp_path / "converted").logits(TOKENS), wanted, atol=2e-5, rtol=0)
    export(str(tmp_path / "m"), [], tmp_path / "exported", merged=False)
    agree(tmp_path / "exported", wanted)


def test_a_config_with_marks_of_trainers_and_of_generation(tmp_path: Path) -> None:
    model = hf_models.make("seed-gqa10-wide", tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    marks = {
        "unsloth_fixed": True, "do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_length": 4096,
        "is_decoder": False, "tokenizer_class": "Qwen2Tokenizer", "torchscript": False, "bad_words_ids": None,
    }  # fmt: skip
    path.write_text(json.dumps({**json.loads(path.read_text()), **marks}))
    np.testing.assert_allclose(sgtr_jax.load_model(tmp_path / "m").logits(TOKENS), logits(model), atol=2e-5, rtol=0)
