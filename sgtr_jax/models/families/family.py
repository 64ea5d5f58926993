"""What a model family is to this project: one value of `Family` in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sgtr_jax.models.config_json import ConfigReader
from sgtr_jax.models.spec import ModelSpec

# Names within a layer of Llama's and Qwen's norms.
LLAMA_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
QK_NORMS = {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}


@dataclass(frozen=True)
class Maker:
    """Who made a family's models: the short name that configs use, and what counts as naming them."""

    key: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Parts:
    """Of a model with other parts than its text decoder: how that is told from them."""

    text_family: str  # what the decoder is by itself
    text_config: Callable[[Mapping[str, Any]], dict[str, Any]]  # its config.json, from the whole model's
    aliases: Mapping[str, str]  # other beginnings that names of tensors and modules may have: ours
    left_out: tuple[str, ...]  # beginnings of the names of the other parts


@dataclass(frozen=True)
class Family:
    """How a family's files are read, and its facts."""

    model_type: str  # in config.json
    architecture: str  # the class in transformers
    source: str  # of the formulas, in transformers
    read: Callable[[ConfigReader], ModelSpec]
    maker: Maker
    # Keys of config.json that `read` uses besides the common ones, and some without effect on the forward pass.
    keys: frozenset[str] = frozenset()
    norms: Mapping[str, str] = field(default_factory=lambda: LLAMA_NORMS)  # our name: theirs within a layer
    prefix: str = "model."  # of all tensors but the head's
    parts: Parts | None = None
    # How the chat templates of its instruct models, by name, begin the system block of a conversation without a system
    # message; none where they write no such block. One that names the maker makes `system: none` another experiment.
    default_systems: Mapping[str, str] = field(default_factory=dict)

    def names_maker(self, model: str) -> bool:
        """Whether a model of the family is told who made it where nobody gives a system message."""
        return any(name.lower() in self.default_systems.get(model, "").lower() for name in self.maker.names)
