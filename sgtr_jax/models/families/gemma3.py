"""Folders of Gemma 3 with images: their text decoder, which is a `gemma3_text` under other tensor names.

The vision tower is neither read nor written: an export of the whole model is a `gemma3_text`. Adapters have the names
that the text part has in the whole model, in which transformers loads such a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sgtr_jax.models.config_json import COMMON, ConfigReader, token_ids
from sgtr_jax.models.families import gemma3_text
from sgtr_jax.models.families.family import Family, Parts
from sgtr_jax.models.spec import ModelSpec


def _read(read: ConfigReader) -> ModelSpec:
    text = read.object("text_config")
    if text.get("model_type") != "gemma3_text":
        raise read.error(f"text_config is of model_type {text.get('model_type')!r:.40}; expected 'gemma3_text'")
    inner = ConfigReader(text, f"{read.where}: text_config")
    inner.check_keys("gemma3_text", COMMON | gemma3_text.FAMILY.keys)
    # The class of the whole model has the key, and does not use it.
    inner.refuse("final_logit_softcapping", "a cap on the logits of a model with images")
    spec = replace(
        gemma3_text.gemma3_spec(inner, "gemma3"), tie_embeddings=read.boolean("tie_word_embeddings", default=True)
    )
    eos = token_ids(read.config, "eos_token_id", read.where)
    return replace(spec, eos_ids=eos) if eos else spec


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    outer = {key: config[key] for key in ("dtype", "torch_dtype", "eos_token_id", "bos_token_id") if key in config}
    tied = config.get("tie_word_embeddings")
    return {
        **config["text_config"],
        **outer,
        "architectures": [gemma3_text.FAMILY.architecture],
        "tie_word_embeddings": True if tied is None else tied,
    }


_KEYS = frozenset({
    "text_config", "vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index", "image_token_index",
    "boi_token_id", "eoi_token_id", "image_token_id",
})  # fmt: skip
FAMILY = Family(
    model_type="gemma3",
    architecture="Gemma3ForConditionalGeneration",
    source=gemma3_text.FAMILY.source,
    read=_read,
    keys=_KEYS,
    norms=gemma3_text.NORMS,
    prefix="model.language_model.",
    parts=Parts(
        text_family="gemma3_text",
        text_config=_text_config,
        # transformers 4 had the two levels the other way round, and adapters may be of the text model alone.
        aliases={
            "language_model.lm_head.": "lm_head.",
            "language_model.model.": "model.language_model.",
            "model.layers.": "model.language_model.layers.",
        },
        left_out=("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."),
    ),
    maker=gemma3_text.MAKER,
)
