"""A random model of two layers that stands in for a large one of its family: nothing that it says means anything."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sgtr_jax.data.chat import end_of_turn_id
from sgtr_jax.data.records import Record
from sgtr_jax.data.registry import configs_folder
from sgtr_jax.data.tokenizer import TOKENIZER_FILES, load_tokenizer
from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json, write_json
from sgtr_jax.finetune.make_nano import make_tokenizer
from sgtr_jax.models.config_json import read_config_json
from sgtr_jax.models.decoder import abstract_params
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.sample.folders import resolve_folder
from sgtr_jax.weights.save import save_params

_SIZES = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
_HEAD, _VOCAB, _POSITIONS, _WINDOW = 16, 4096, 8192, 256
_SHARED, _ENDS = 2.0, 0.8


def make_smoke_model(name: str, texts: list[Record], folder: Path) -> str:
    """Write the model that stands in for `name` to `folder`; returns what its tokenizer is, in words.

    The tokenizer is the model's own where it can be had, and else one that is trained on `texts` a moment ago, with a
    plain chat template. Raises InputError for a model whose family cannot be known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        source: Path | None = resolve_folder(name, weights=False)
    except InputError:  # no such folder, and the hub cannot be reached or has none of that name
        source = None
    config = _config_of(name, source)
    files = [] if source is None else [one for one in TOKENIZER_FILES if (source / one).is_file()]
    if source is not None and "tokenizer.json" in files:
        for one in files:
            shutil.copyfile(source / one, folder / one)
        tokenizer, said = load_tokenizer(folder), "the model's own tokenizer"
    else:
        tokenizer, said = (
            make_tokenizer(folder, texts, _VOCAB),
            "a tokenizer trained on the data (the model's own cannot be had)",
        )
    small = _small(config, tokenizer)
    spec = spec_from_config(small, f"a small {name}")
    write_json(folder / "config.json", small)
    rng = np.random.default_rng(0)

    def fill(path: Any, leaf: Any) -> np.ndarray:
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return np.asarray(centre + 0.05 * rng.standard_normal(leaf.shape), np.float32)

    params = jax.tree.map_with_path(fill, abstract_params(spec))
    # What it writes comes to an end after some ten tokens: one direction is the same in every token, and the head reads
    # it for the end of a turn alone.
    params["embedding"][:, 0] = _SHARED
    end = end_of_turn_id(tokenizer)
    end = tokenizer.eos_token_id if end is None else end
    if end is None:
        raise InputError(f"model {name!r}: neither its tokenizer nor its chat template names a token that ends a turn")
    if "head" in params:
        params["head"][0] = 0.0
        params["head"][0, end] = _ENDS
    else:
        params["embedding"][end, 0] += _ENDS
    save_params(folder, params, spec)
    return said


def _config_of(name: str, source: Path | None) -> dict[str, Any]:
    if source is not None and (source / "config.json").is_file():
        return read_config_json(source)
    known = configs_folder() / "models" / f"{name.rsplit('/', 1)[-1]}.json"
    if not known.is_file():
        raise InputError(
            f"model {name!r}: its config.json can neither be read here nor fetched, and configs/models has none of it"
        )
    return read_json(known)


def _small(config: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    small = {**config, **_SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": _POSITIONS}
    if "head_dim" in config:
        small["head_dim"] = _HEAD
    if config.get("layer_types") is not None:
        # The last two: patterns of windows end with the layer that is another.
        small["layer_types"] = list(config["layer_types"])[-_SIZES["num_hidden_layers"] :]
    if isinstance(config.get("sliding_window"), int):
        small["sliding_window"] = _WINDOW
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id,
           "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    return {**small, **ids, "max_window_layers": 2} if "max_window_layers" in config else {**small, **ids}
