"""Reading a `config.json`: typed access to its keys, and what all families' files have in common.

A key that is missing or not understood is an error, because a silently ignored key is a silently different model.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, cast

from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json
from sgtr_jax.models.spec import Activation, LayerKind, ModelSpec

# Beyond these a number is a mistake, and reading on would take all memory.
_MOST, _MOST_LAYERS, _MOST_HEADS = 2**31 - 1, 10_000, 65_536

# Keys that say nothing about the forward pass.
IGNORED = {
    "_attn_implementation", "_attn_implementation_autoset", "_name_or_path", "attn_implementation", "architectures",
    "auto_map", "chunk_size_feed_forward",
    "dtype", "id2label", "initializer_range", "label2id", "model_type",
    "output_attentions", "output_hidden_states", "pretraining_tp", "problem_type", "return_dict",
    "torch_dtype", "transformers_version", "use_cache",
    "keys_to_ignore_at_inference", "model_max_length", "tokenizer_model_max_length", "trust_remote_code",
    # Of heads that are no language model's, and of trainers.
    "axolotl_config", "classifier_dropout", "neftune_noise_alpha", "num_labels",
    # What transformers 4 wrote of generation, tasks and other frameworks.
    "bad_words_ids", "begin_suppress_tokens", "cache_implementation", "decoder_start_token_id", "diversity_penalty",
    "do_sample", "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty",
    "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "is_decoder", "length_penalty", "max_length",
    "max_new_tokens", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_scores", "prefix", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "sep_token_id",
    "suppress_tokens", "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder",
    "tokenizer_class", "top_k", "top_p", "torchscript", "typical_p", "use_bfloat16", "use_return_dict",
}  # fmt: skip
# Keys of other kinds of models: with any other value than these the forward pass is another one.
_OFF: dict[str, Any] = {
    "is_encoder_decoder": False, "rope_interleaved": False, "add_cross_attention": False,
    "cross_attention_hidden_size": None, "pruned_heads": {},
}  # fmt: skip
# Marks that trainers leave, heads for summaries, and settings of JavaScript.
IGNORED_PREFIXES = ("unsloth_", "_unsloth_", "summary_", "transformers.js")
# Keys that every family's file may have.
COMMON = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta",
    "rope_scaling", "rope_parameters", "tie_word_embeddings", "attention_dropout", "bos_token_id",
    "eos_token_id", "pad_token_id", "layer_types",
}  # fmt: skip
_ACTIVATIONS: dict[str, Activation] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}


def read_config_json(folder: Path) -> dict[str, Any]:
    """Read `folder/config.json`. Raises InputError when it is absent or not a JSON object."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"{folder}: no config.json. Expected a Hugging Face model folder "
            "(config.json, *.safetensors, tokenizer files) or one made by `sgtr convert`"
        )
    return read_json(path)


def token_ids(config: Mapping[str, Any], key: str, where: str) -> tuple[int, ...]:
    """One token id, a list of them, or none. Raises InputError for anything else."""
    value = config.get(key)
    listed = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in listed):
        raise InputError(f"{where}: {key} is {value!r:.60}; expected a token id or a list of them")
    return tuple(listed)


class ConfigReader:
    """Typed access to a config object; the key and the file are in every error."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.config, self.where = config, where

    def check_keys(self, family: str, known: AbstractSet[str]) -> None:
        """Raise InputError for keys that are neither known nor without effect on the forward pass."""
        if self.config.get("quantization_config") is not None:
            raise self.error(
                "the weights are quantised (quantization_config), and are not read in that form. Take the repository "
                "that is not quantised, or write one with transformers: model.dequantize(), then save_pretrained"
            )
        unknown = {
            key for key in set(self.config) - IGNORED - known
            if self.config[key] not in (None, _OFF.get(key)) and not key.startswith(IGNORED_PREFIXES)
        }  # fmt: skip
        if unknown:
            raise self.error(
                f"keys not understood for {family}: {', '.join(sorted(unknown))}. "
                "They may change the forward pass, so the model is not loaded"
            )

    def error(self, message: str) -> InputError:
        """An error that names the file."""
        return InputError(f"{self.where}: {message}")

    def _get(self, key: str, kinds: tuple[type, ...], default: object, expected: str) -> Any:
        value = self.config.get(key)
        value = default if value is None else value
        if value is None:
            raise self.error(f"key {key!r} is missing; expected {expected}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.error(f"key {key!r} is {value!r:.60}; expected {expected}")
        return value

    def integer(self, key: str, default: int | None = None, most: int = _MOST) -> int:
        """A whole number from 1."""
        value: int = self._get(key, (int,), default, "a whole number")
        if not 1 <= value <= most:
            raise self.error(f"key {key!r} is {value!r:.40}; expected 1 or more, and at most {most}")
        return value

    def number(self, key: str, default: float | None = None, above: float = -1e-300, below: float = 1e30) -> float:
        """A finite number."""
        value = self._get(key, (int, float), default, "a number")
        if not above < value < below:  # not so for NaN either
            raise self.error(f"key {key!r} is {value!r:.40}; expected a number of a possible size")
        return float(value)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        return bool(self._get(key, (bool,), default, "true or false"))

    def object(self, key: str) -> dict[str, Any]:
        """A JSON object; empty where the key is absent."""
        return cast("dict[str, Any]", self._get(key, (dict,), {}, "an object"))

    def refuse(self, key: str, meaning: str) -> None:
        """Raise InputError if a key is there and not false: what it asks for is not implemented."""
        if self.config.get(key) not in (None, False):
            raise self.error(f"{key} is {self.config[key]!r:.60}: {meaning} is not supported")


def llama_spec(
    read: ConfigReader,
    family: str,
    pattern: tuple[LayerKind, ...],
    *,
    tied: bool = False,
    head_dim: int | None = None,
    act: str = "hidden_act",
) -> ModelSpec:
    """The spec of Llama's decoder with a config's numbers, which a family then changes where it differs.

    `tied` and `head_dim` are what the family's class takes for a file that leaves them out; by itself the head size is
    D / N. `act` is the key of the activation. Raises InputError for numbers that fit no decoder.
    """
    heads = read.integer("num_attention_heads", most=_MOST_HEADS)
    hidden = read.integer("hidden_size")
    if read.config.get("head_dim") is None and head_dim is None and hidden % heads:
        raise read.error(f"hidden_size {hidden} is not a multiple of {heads} heads; give head_dim")
    size = read.integer("head_dim", default=head_dim or hidden // heads or 1)
    if size % 2:
        raise read.error(f"head_dim is {size}; rotary embedding turns pairs of channels, so it must be even")
    null_heads = "num_key_value_heads" in read.config and read.config["num_key_value_heads"] is None
    kv_heads = heads if null_heads else read.integer("num_key_value_heads")
    if heads % kv_heads:
        raise read.error(f"{heads} attention heads do not share {kv_heads} key-value heads evenly")
    activation = read.config.get(act)
    if activation not in _ACTIVATIONS:
        raise read.error(f"{act} is {activation!r:.40}; supported: {', '.join(_ACTIVATIONS)}")
    return ModelSpec(
        family=family,
        vocab_size=read.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=read.integer("intermediate_size"),
        num_layers=num_layers(read),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=size,
        max_positions=read.integer("max_position_embeddings"),
        rms_norm_eps=read.number("rms_norm_eps", above=0, below=1),
        tie_embeddings=read.boolean("tie_word_embeddings", default=tied),
        attention_dropout=read.number("attention_dropout", default=0.0, below=1),
        eos_ids=token_ids(read.config, "eos_token_id", read.where),
        pattern=pattern,
        query_scale=size**-0.5,
        activation=_ACTIVATIONS[activation],
    )


def num_layers(read: ConfigReader) -> int:
    """The number of layers."""
    return read.integer("num_hidden_layers", most=_MOST_LAYERS)
