"""What a decoder is made of: its numbers, and what its family's layer does differently from Llama's.

A spec is plain data and hashable: programs are compiled for it. `models/families` reads it from a `config.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How the norms multiply: the normed value is rounded to the model's dtype first, or only the product is, or the
# stored weight stands for `1 + weight`.
NormKind = Literal["round_then_scale", "scale", "one_plus"]
Activation = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True)
class LinearScaling:
    """All angles divided by `factor` (position interpolation, arXiv 2306.15595)."""

    factor: float


@dataclass(frozen=True)
class Llama3Scaling:
    """Slow rotations divided by `factor`, fast ones left alone, those between interpolated (Llama 3.1)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: int


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071): a ramp over the channels, and cosines and sines times `attention_factor`."""

    factor: float
    original_positions: int
    beta_fast: float
    beta_slow: float
    attention_factor: float
    truncate: bool  # whether the ramp begins and ends at whole channels


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding: its base and what stretches it beyond the length it was trained with."""

    theta: float
    scaling: LinearScaling | Llama3Scaling | YarnScaling | None = None


@dataclass(frozen=True)
class LayerKind:
    """What may differ from layer to layer besides the weights."""

    rope: Rope
    window: int | None = None  # tokens that a token sees, itself included; None: all before it


@dataclass(frozen=True)
class ModelSpec:
    """One decoder. Shape letters: D hidden, F mlp, N heads, K kv heads, H head size, V vocab."""

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
    tie_embeddings: bool
    attention_dropout: float
    eos_ids: tuple[int, ...]
    pattern: tuple[LayerKind, ...]  # layer i is of kind `pattern[i % len(pattern)]`
    query_scale: float  # what scores are multiplied by before the softmax
    residual_dropout: float = 0.0
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    activation: Activation = "silu"
    norm: NormKind = "round_then_scale"
    norm_before: bool = True  # of what attention and MLP read
    norm_after: bool = False  # of what they add to the residual stream
    qk_norm: Literal["head", "projection"] | None = None  # over each head's channels, or over all heads' together
    embedding_scale: float = 1.0
    logit_soft_cap: float | None = None  # c: logits are c * tanh(logits / c)

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
    def norms(self) -> dict[str, int]:
        """Width of each norm that a layer has."""
        found: dict[str, int] = {}
        if self.norm_before:
            found |= {"attention_norm": self.hidden_size, "mlp_norm": self.hidden_size}
        if self.norm_after:
            found |= {"attention_out_norm": self.hidden_size, "mlp_out_norm": self.hidden_size}
        if self.qk_norm is not None:
            heads = (1, 1) if self.qk_norm == "head" else (self.num_heads, self.num_kv_heads)
            found |= {"q_norm": heads[0] * self.head_dim, "k_norm": heads[1] * self.head_dim}
        return found

    @property
    def projection_parameters(self) -> int:
        """Parameters of all layers' projections: a token's forward pass takes two operations for each."""
        return self.num_layers * sum(into * out for into, out in self.projections.values())

    def keys_seen(self, length: int) -> float:
        """Keys that a query of a row of so many tokens sees on average, summed over layers."""
        windows = [min(self.window(layer) or length, length) for layer in range(self.num_layers)]
        return sum(size - size * size / (2 * length) for size in windows)

    def window(self, layer: int) -> int | None:
        """Tokens that a token of a layer sees, itself included; None: all before it."""
        return self.pattern[layer % len(self.pattern)].window

    def has_bias(self, projection: str) -> bool:
        """Whether a projection has a bias."""
        if projection in ("q_proj", "k_proj", "v_proj"):
            return self.qkv_bias
        return self.out_bias if projection == "o_proj" else self.mlp_bias
