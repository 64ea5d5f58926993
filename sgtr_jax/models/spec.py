"""What a checkpoint's `config.json` says about its decoder.

Qwen2/2.5 and Seed-OSS are the same decoder with different numbers: biases, head size, rope base, dropout.
Both are read from the file as `transformers` 4 and 5 write it; a key that is missing or not understood is an
error, because a silently ignored key is a silently different model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json

# Beyond these a number is a mistake, and reading on would take all memory.
_MOST, _MOST_LAYERS, _MOST_HEADS = 2**31 - 1, 10_000, 65_536

ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "seed_oss": "SeedOssForCausalLM"}

# Keys that say nothing about the forward pass.
_IGNORED = {
    "_attn_implementation_autoset", "_name_or_path", "architectures", "auto_map", "chunk_size_feed_forward",
    "dtype", "id2label", "initializer_range", "is_encoder_decoder", "label2id", "model_type",
    "output_attentions", "output_hidden_states", "pretraining_tp", "problem_type", "return_dict",
    "torch_dtype", "transformers_version", "use_cache",
    # What transformers 4 wrote of generation, tasks and other frameworks.
    "bad_words_ids", "begin_suppress_tokens", "decoder_start_token_id", "diversity_penalty", "do_sample",
    "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "finetuning_task",
    "forced_bos_token_id", "forced_eos_token_id", "is_decoder", "length_penalty", "max_length", "max_new_tokens",
    "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_scores",
    "prefix", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "sep_token_id",
    "suppress_tokens", "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder",
    "tokenizer_class", "top_k", "top_p", "torchscript", "typical_p", "use_bfloat16",
}  # fmt: skip
# Marks that trainers leave.
_IGNORED_PREFIXES = ("unsloth_", "_unsloth_")
_COMMON = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta",
    "rope_scaling", "rope_parameters", "tie_word_embeddings", "attention_dropout", "bos_token_id",
    "eos_token_id", "pad_token_id", "layer_types",
}  # fmt: skip
_FAMILY = {
    "qwen2": {"use_sliding_window", "sliding_window", "max_window_layers", "use_mrope"},
    "seed_oss": {"attention_bias", "attention_out_bias", "mlp_bias", "residual_dropout"},
}


@dataclass(frozen=True)
class ModelSpec:
    """Numbers of one decoder. Shape letters: D hidden, F mlp, N heads, K kv heads, H head size, V vocab."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rms_norm_eps: float
    rope_theta: float
    tie_embeddings: bool
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    attention_dropout: float
    residual_dropout: float
    eos_ids: tuple[int, ...]

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Input and output width of the seven linear maps of a layer, in the order of the forward pass."""
        D, F, NH, KH = (
            self.hidden_size,
            self.intermediate_size,
            self.num_heads * self.head_dim,
            self.num_kv_heads * self.head_dim,
        )
        return {
            "q_proj": (D, NH), "k_proj": (D, KH), "v_proj": (D, KH), "o_proj": (NH, D),
            "gate_proj": (D, F), "up_proj": (D, F), "down_proj": (F, D),
        }  # fmt: skip

    @property
    def projection_parameters(self) -> int:
        """Parameters of all layers' projections: a token's forward pass takes two operations for each."""
        return self.num_layers * sum(into * out for into, out in self.projections.values())

    def has_bias(self, projection: str) -> bool:
        """Whether a projection has a bias."""
        if projection in ("q_proj", "k_proj", "v_proj"):
            return self.qkv_bias
        return self.out_bias if projection == "o_proj" else self.mlp_bias


def read_config_json(folder: Path) -> dict[str, Any]:
    """Read `folder/config.json`. Raises InputError when it is absent or not a JSON object."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"{folder}: no config.json. Expected a Hugging Face model folder "
            "(config.json, *.safetensors, tokenizer files) or one made by `sgtr convert`"
        )
    return read_json(path)


def spec_from_config(config: dict[str, Any], where: str) -> ModelSpec:
    """Read a `config.json` object (`where` names it in errors). Raises InputError for anything not understood.

    Defaults follow `transformers/models/{qwen2,seed_oss}/configuration_*.py`, and only where a file written
    by transformers may leave the key out.
    """
    family = config.get("model_type")
    if not isinstance(family, str) or family not in ARCHITECTURES:
        raise InputError(
            f"{where}: model_type {family!r:.60} is not supported; supported: {', '.join(sorted(ARCHITECTURES))}"
        )
    architectures = config.get("architectures") or [ARCHITECTURES[family]]
    if not isinstance(architectures, list) or ARCHITECTURES[family] not in architectures:
        raise InputError(
            f"{where}: architectures {architectures!r:.80}; expected {ARCHITECTURES[family]!r} for {family}"
        )
    unknown = {
        key for key in set(config) - _IGNORED - _COMMON - _FAMILY[family]
        if config[key] is not None and not key.startswith(_IGNORED_PREFIXES)
    }  # fmt: skip
    if unknown:
        raise InputError(
            f"{where}: keys not understood for {family}: {', '.join(sorted(unknown))}. "
            "They may change the forward pass, so the model is not loaded"
        )
    read = _Reader(config, where)
    _refuse_variants(config, where)
    heads = read.integer("num_attention_heads", most=_MOST_HEADS)
    hidden = read.integer("hidden_size")
    if config.get("head_dim") is not None:
        head_dim = read.integer("head_dim")
    else:
        if hidden % heads:
            raise InputError(f"{where}: hidden_size {hidden} is not a multiple of {heads} heads; give head_dim")
        head_dim = hidden // heads
    kv_heads = heads if config.get("num_key_value_heads", 0) is None else read.integer("num_key_value_heads")
    if heads % kv_heads:
        raise InputError(f"{where}: {heads} attention heads do not share {kv_heads} key-value heads evenly")
    seed = family == "seed_oss"
    return ModelSpec(
        family=family,
        vocab_size=read.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=read.integer("intermediate_size"),
        num_layers=read.integer("num_hidden_layers", most=_MOST_LAYERS),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        max_positions=read.integer("max_position_embeddings"),
        rms_norm_eps=read.number("rms_norm_eps", above=0, below=1),
        rope_theta=_rope_theta(config, where),
        tie_embeddings=read.boolean("tie_word_embeddings", default=False),
        # transformers' Qwen2Attention writes bias=True on q, k, v and none elsewhere, whatever the config.
        qkv_bias=read.boolean("attention_bias") if seed else True,
        out_bias=read.boolean("attention_out_bias") if seed else False,
        mlp_bias=read.boolean("mlp_bias") if seed else False,
        attention_dropout=read.number("attention_dropout", default=None if seed else 0.0, below=1),
        residual_dropout=read.number("residual_dropout", below=1) if seed else 0.0,
        eos_ids=token_ids(config, "eos_token_id", where),
    )


def token_ids(config: dict[str, Any], key: str, where: str) -> tuple[int, ...]:
    """One token id, a list of them, or none. Raises InputError for anything else."""
    value = config.get(key)
    listed = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in listed):
        raise InputError(f"{where}: {key} is {value!r:.60}; expected a token id or a list of them")
    return tuple(listed)


class _Reader:
    """Typed access to a config object; the key and the file are in every error."""

    def __init__(self, config: dict[str, Any], where: str) -> None:
        self._config, self._where = config, where

    def _get(self, key: str, kinds: tuple[type, ...], default: Any, expected: str) -> Any:
        value = self._config.get(key, default)
        if value is None:
            raise InputError(f"{self._where}: key {key!r} is missing; expected {expected}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise InputError(f"{self._where}: key {key!r} is {value!r}; expected {expected}")
        return value

    def integer(self, key: str, most: int = _MOST) -> int:
        value: int = self._get(key, (int,), None, "a whole number")
        if not 1 <= value <= most:
            raise InputError(f"{self._where}: key {key!r} is {value!r:.40}; expected 1 or more, and at most {most}")
        return value

    def number(self, key: str, default: float | None = None, above: float = -1e-300, below: float = 1e30) -> float:
        """A finite number."""
        value = self._get(key, (int, float), default, "a number")
        if not above < value < below:  # not so for NaN either
            raise InputError(f"{self._where}: key {key!r} is {value!r:.40}; expected a number of a possible size")
        return float(value)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        return bool(self._get(key, (bool,), default, "true or false"))


def _rope_theta(config: dict[str, Any], where: str) -> float:
    """`rope_theta` at the top level (transformers 4) or inside `rope_parameters` (5); plain RoPE only."""
    inner, scaling = config.get("rope_parameters") or {}, config.get("rope_scaling") or {}
    for key, rope in (("rope_parameters", inner), ("rope_scaling", scaling)):
        if not isinstance(rope, dict):
            raise InputError(f"{where}: {key} is {rope!r:.60}; expected an object")
        kind = rope.get("rope_type", rope.get("type", "default"))
        extra = set(rope) - {"rope_type", "type", "rope_theta"}
        if kind != "default" or extra:
            raise InputError(f"{where}: {key} {rope!r} is not supported; only rope_type 'default' is")
    found = [c["rope_theta"] for c in (inner, config) if c.get("rope_theta") is not None]
    if not found:
        raise InputError(f"{where}: key 'rope_theta' is missing (looked at the top level and in rope_parameters)")
    for theta in found:
        if isinstance(theta, bool) or not isinstance(theta, int | float) or not 0 < theta < 1e30:
            raise InputError(f"{where}: rope_theta is {theta!r:.40}; expected a number above 0")
    if len(set(found)) > 1:
        raise InputError(f"{where}: rope_theta is {found[1]} at the top level but {found[0]} in rope_parameters")
    return float(found[0])


def _refuse_variants(config: dict[str, Any], where: str) -> None:
    """Refuse settings that change the forward pass in a way this decoder does not implement."""
    if config.get("hidden_act") != "silu":
        raise InputError(f"{where}: hidden_act is {config.get('hidden_act')!r}; only 'silu' is supported")
    kinds = config.get("layer_types") or []
    if not isinstance(kinds, list):
        raise InputError(f"{where}: layer_types is {kinds!r:.60}; expected a list")
    other = [kind for kind in kinds if kind != "full_attention"]
    if config.get("use_sliding_window") or other:
        raise InputError(f"{where}: sliding-window attention is not supported (set use_sliding_window to false)")
    if config.get("use_mrope"):
        raise InputError(f"{where}: use_mrope is not supported")
