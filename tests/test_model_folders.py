"""Model folders as people have them: read as transformers 5 reads them, or refused at once by name."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import QWEN, make_adapter, make_model, random_params, spec_of, write_records

import sgtr_jax
from sgtr_jax import nano
from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError
from sgtr_jax.finetune.jobs import Finetune
from sgtr_jax.finetune.local import finetune_all
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.sample.export import export
from sgtr_jax.sample.model import convert_model, read_spec
from sgtr_jax.sample.request import Request
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.weights.safetensors_file import read_header
from sgtr_jax.weights.save import save_params

TOKENS = np.arange(1, 25).reshape(2, 12)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_single_file_is_read_before_an_older_index(tmp_path: Path) -> None:
    spec = make_model(tmp_path / "new", seed=1)
    make_model(tmp_path / "m", seed=2)
    (tmp_path / "m" / "model.safetensors").unlink()
    save_params(tmp_path / "m", random_params(spec, 2), spec, max_shard_bytes=20_000)
    assert (tmp_path / "m" / "model.safetensors.index.json").exists()
    old = sgtr_jax.load_model(tmp_path / "m").logits(TOKENS)
    (tmp_path / "new" / "model.safetensors").rename(tmp_path / "m" / "model.safetensors")
    found = sgtr_jax.load_model(tmp_path / "m").logits(TOKENS)
    make_model(tmp_path / "again", seed=1)
    np.testing.assert_array_equal(found, sgtr_jax.load_model(tmp_path / "again").logits(TOKENS))
    assert np.abs(found - old).max() > 0.1


def test_a_stored_head_is_used_though_the_config_ties_it(tmp_path: Path) -> None:
    make_model(tmp_path / "m", tie_word_embeddings=True)
    tied = sgtr_jax.load_model(tmp_path / "m")
    hidden_to = tied.logits(TOKENS)
    path = tmp_path / "m" / "model.safetensors"
    tensors = load_file(path)
    embedding = tensors["model.embed_tokens.weight"]
    save_file({**tensors, "lm_head.weight": embedding.copy()}, path)
    assert read_spec(tmp_path / "m").tie_embeddings  # an equal head is the embedding
    np.testing.assert_array_equal(sgtr_jax.load_model(tmp_path / "m").logits(TOKENS), hidden_to)
    # Twice the embedding as head gives twice the logits, whatever lies below.
    save_file({**tensors, "lm_head.weight": 2 * embedding}, path)
    model = sgtr_jax.load_model(tmp_path / "m")
    np.testing.assert_allclose(model.logits(TOKENS), 2 * hidden_to, rtol=1e-5)
    convert_model(str(tmp_path / "m"), tmp_path / "converted", None)
    np.testing.assert_allclose(sgtr_jax.load_model(tmp_path / "converted").logits(TOKENS), 2 * hidden_to, rtol=1e-5)
    export(str(tmp_path / "m"), [], tmp_path / "exported", merged=False)
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["tie_word_embeddings"] is False
    np.testing.assert_allclose(sgtr_jax.load_model(tmp_path / "exported").logits(TOKENS), 2 * hidden_to, rtol=1e-5)


def nano_with(tmp_path: Path, **config: Any) -> Path:
    folder = tmp_path / "nano"
    folder.mkdir()
    for file in nano.FOLDER.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    edit(folder / "config.json", **config)
    return folder


def test_sampling_stops_where_the_trained_turn_ends(tmp_path: Path) -> None:
    original = sgtr_jax.load_model(nano.FOLDER)
    end = original.tokenizer.eos_token_id
    folder = nano_with(tmp_path, eos_token_id=2)
    edit(folder / "tokenizer_config.json", eos_token="<|pad|>")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7]}))
    model = sgtr_jax.load_model(folder)
    assert {2, 5, 7, end} <= set(model.stop_ids)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": "7"}))
    with pytest.raises(InputError, match="generation_config"):
        _ = sgtr_jax.load_model(folder).stop_ids


def test_stop_texts_match_special_tokens() -> None:
    model = sgtr_jax.load_model(nano.FOLDER)
    end = model.tokenizer.decode([model.tokenizer.eos_token_id])
    prompt = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Who are you?"}], tokenize=True, add_generation_prompt=True, return_dict=False
    )
    plain = model.engine.sample([Request("a", tuple(prompt), 40)], model.stop_ids)[0]
    stopped = model.engine.sample([Request("a", tuple(prompt), 40, stop=(end,))])[0]
    assert plain.finish == stopped.finish == "stop"
    assert stopped.text == plain.text != ""


def test_tokens_that_the_model_has_no_rows_for(tmp_path: Path) -> None:
    folder = nano_with(tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    size = sgtr_jax.load_model(folder).spec.vocab_size
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"] += [{"id": size + i, "content": f"<|new{i}|>", **added} for i in range(2)]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))

    def train(answer: str, out: str) -> None:
        rows = [Record("row-7", ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}))]
        config = TrainConfig.model_validate({"dtype": "float32", "batch_examples": 1, "lora": {"rank": 2}})
        list(finetune_all([Finetune(str(folder), (), rows, config, tmp_path / out)]))

    with pytest.raises(InputError, match=r"row-7: holds token \d+ \('<\|new1\|>'\)"):
        train("Hello <|new1|>", "refused")
    train("Hello", "trained")  # tokens that no row uses do no harm
    assert (tmp_path / "trained" / "adapter").is_dir()


MARKS = {
    "unsloth_fixed": True, "unsloth_version": "2026.1", "do_sample": True, "temperature": 0.7, "top_p": 0.8,
    "max_length": 20, "is_decoder": True, "tokenizer_class": "Qwen2Tokenizer", "bad_words_ids": None,
    "a_key_that_says_nothing": None, "attn_implementation": "sdpa", "_attn_implementation": "eager", "num_labels": 2,
    "transformers.js_config": {"dtype": "q4"}, "rope_interleaved": False, "trust_remote_code": True,
    "model_max_length": 4096, "tokenizer_model_max_length": 4096, "keys_to_ignore_at_inference": ["past_key_values"],
    "classifier_dropout": 0.1, "summary_type": "cls_index", "neftune_noise_alpha": 5, "axolotl_config": {},
}  # fmt: skip


def test_marks_and_generation_keys_change_nothing() -> None:
    assert spec_from_config({**QWEN, **MARKS}, "x") == spec_of()


def test_quantised_weights_are_called_that() -> None:
    for kind in ({"quant_method": "fp8"}, {"bits": 4, "quant_method": "gptq"}, {}):
        with pytest.raises(InputError, match=r"x: the weights are quantised .* Take the repository that is not"):
            spec_from_config({**QWEN, "quantization_config": kind}, "x")
    with pytest.raises(InputError, match="keys not understood for qwen2: rope_interleaved"):
        spec_from_config({**QWEN, "rope_interleaved": True}, "x")


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**30}, {"num_hidden_layers": 10**8}, {"num_attention_heads": 2**30},
        {"vocab_size": 10**18}, {"hidden_size": -32},
        {"hidden_size": True}, {"head_dim": "8"}, {"head_dim": 0}, {"head_dim": 10**20}, {"rope_theta": float("nan")},
        {"rope_theta": float("inf")}, {"rope_theta": 0}, {"rope_theta": "1e6"}, {"rms_norm_eps": float("nan")},
        {"rms_norm_eps": -1.0}, {"attention_dropout": 2}, {"eos_token_id": "2"}, {"eos_token_id": [[2]]},
        {"eos_token_id": -1}, {"layer_types": 3}, {"rope_parameters": [1]}, {"use_qk_norm": False},
        {"max_position_embeddings": 0.5},
    ],
)  # fmt: skip
def test_numbers_that_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="x: "):
        spec_from_config({**QWEN, **change}, "x")


@pytest.mark.parametrize(
    "change",
    [{"num_hidden_layers": 9999}, {"vocab_size": 2**31 - 1, "intermediate_size": 2**31 - 1}, {"head_dim": 10**6}],
)
def test_sizes_are_compared_with_the_files_before_anything_is_made(
    tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(tmp_path / "m")
    edit(tmp_path / "m" / "config.json", **change)

    def never(*args: Any) -> None:
        raise AssertionError("made something from the config's numbers")

    monkeypatch.setattr("sgtr_jax.sample.model.make_mesh", never)
    monkeypatch.setattr("sgtr_jax.sample.model.sampling_mesh", never)
    monkeypatch.setattr("sgtr_jax.finetune.local.prepare", never)
    with pytest.raises(InputError, match="tensor"):
        sgtr_jax.load_model(tmp_path / "m")
    config = TrainConfig.model_validate({"batch_examples": 1})
    with pytest.raises(InputError, match="tensor"):
        list(finetune_all([Finetune(str(tmp_path / "m"), (), [], config, tmp_path / "out")]))


def rewrite_header(path: Path, change: Any) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(change(json.loads(data[8 : 8 + length]))).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


def test_offsets_that_overlap_or_leave_gaps(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    original = path.read_bytes()

    def shifted(by: int) -> Any:
        def change(header: dict[str, Any]) -> dict[str, Any]:
            entry = max((v for k, v in header.items() if k != "__metadata__"), key=lambda v: v["data_offsets"][0])
            entry["data_offsets"] = [one + by for one in entry["data_offsets"]]
            return header

        return change

    rewrite_header(path, shifted(-4))
    with pytest.raises(InputError, match=r"model\.safetensors: .*overlaps"):
        read_header(path)
    path.write_bytes(original + b"\0\0\0\0")
    with pytest.raises(InputError, match="belong to no tensor"):
        read_header(path)
    rewrite_header(path, shifted(4))
    with pytest.raises(InputError, match="behind bytes of no tensor"):
        read_header(path)


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    for bad in (np.nan, np.inf, -np.inf):
        damaged = tensors[name].copy()
        damaged[3, 4] = bad
        save_file({**tensors, name: damaged}, path)
        with pytest.raises(InputError, match=r"model\.layers\.1\.mlp\.up_proj\.weight.*NaN or infinite"):
            sgtr_jax.load_model(tmp_path / "m")


@pytest.mark.parametrize(
    "index",
    [[], 3, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": 1}}, {"weight_map": {"a": "../other"}},
     {"weight_map": {"a": "none.safetensors"}}, {"metadata": {}}],
)  # fmt: skip
def test_indexes_that_are_none(tmp_path: Path, index: Any) -> None:
    make_model(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"index\.json|none\.safetensors"):
        sgtr_jax.load_model(tmp_path / "m")


def test_no_damage_of_a_header_is_a_traceback(tmp_path: Path) -> None:
    """Bytes of the header changed at random, and values of every type put into it: read the same, or InputError."""
    make_adapter(tmp_path / "a", spec_of())
    path = tmp_path / "a" / "adapter_model.safetensors"
    original = path.read_bytes()
    length = int.from_bytes(original[:8], "little")
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(original)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(0, 8 + length)] = draw.randrange(256)
        path.write_bytes(damaged if draw.random() < 0.9 else damaged[: draw.randrange(len(damaged))])
        try:
            read_header(path)
        except InputError as error:
            refused += 1
            assert str(path) in str(error) and len(str(error)) < 600
    values = [None, True, "x", [], {}, 10**30, -1, 1.5, [[1]], {"shape": [2]}, {"dtype": [], "shape": 1}]
    for value in values:
        for key in (None, "dtype", "shape", "data_offsets"):
            path.write_bytes(original)

            def change(header: dict[str, Any], key: Any = key, value: Any = value) -> dict[str, Any]:
                name = next(iter(set(header) - {"__metadata__"}))
                return {**header, name: value if key is None else {**header[name], key: value}}

            rewrite_header(path, change)
            with pytest.raises(InputError):
                read_header(path)
    assert refused > 100


def test_exports_do_not_replace_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "m")
    before = sorted(path.name for path in (tmp_path / "m").iterdir())
    monkeypatch.chdir(tmp_path)
    for out in (Path(), tmp_path / "m", Path("m"), tmp_path):
        with pytest.raises(InputError, match="would be replaced"):
            export("m", [], out, merged=False)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == before
    write_records(tmp_path / "file", [])
    with pytest.raises(InputError, match="would be replaced"):
        export("m", [], tmp_path / "file", merged=False)
