"""Hugging Face tensor names, from what the family says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sgtr_jax.distributed.layout import Layout
from sgtr_jax.json_types import Json
from sgtr_jax.models.families import families
from sgtr_jax.models.spec import ModelSpec

# torch keeps weights as [out, in]; ours are [in, out].
_MODULES = {
    "q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn",
    "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp",
}  # fmt: skip
PEFT_PREFIX = "base_model.model."
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Source:
    """Where one of our parameters comes from in a Hugging Face checkpoint.

    `names` has one entry per layer for stacked parameters, one entry otherwise; `shape` is one tensor's shape
    *as stored*; `transpose` says that ours is the transpose.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    stacked: bool
    transpose: bool

    @property
    def own_shape(self) -> tuple[int, ...]:
        """Shape of our parameter."""
        inner = self.shape[::-1] if self.transpose else self.shape
        return (len(self.names), *inner) if self.stacked else inner


Path = tuple[str | int, ...]  # keys of dicts; a number is that of a layer whose weights lie apart
T = TypeVar("T")


def embedding_name(spec: ModelSpec) -> str:
    """The embedding's tensor."""
    return f"{families()[spec.family].prefix}embed_tokens.weight"


def with_our_names(found: Mapping[str, T], spec: ModelSpec) -> dict[str, T]:
    """Tensors or modules by the names used here, without those of parts that are not the text decoder."""
    parts = families()[spec.family].parts
    if parts is None:
        return dict(found)
    ours = {}
    for name, value in found.items():
        if not name.startswith(parts.left_out):
            alias = next((start for start in parts.aliases if name.startswith(start)), "")
            ours[parts.aliases.get(alias, "") + name.removeprefix(alias)] = value
    return ours


def adapted_modules(spec: ModelSpec, targets: Sequence[str], layers: Sequence[int] | None) -> dict[str, Json]:
    """PEFT's settings of where an adapter is: projections and layers, or a pattern where other parts have such, too."""
    family = families()[spec.family]
    if family.parts is None:
        return {"target_modules": list(targets)} | ({} if layers is None else {"layers_to_transform": list(layers)})
    which = r".*" if layers is None else rf"({'|'.join(map(str, layers))})\..*"
    return {"target_modules": rf"{re.escape(family.prefix)}layers\.{which}\.({'|'.join(targets)})"}


def _layer_prefixes(spec: ModelSpec) -> list[str]:
    return [f"{families()[spec.family].prefix}layers.{i}." for i in range(spec.num_layers)]


def base_sources(spec: ModelSpec, layout: Layout = "stacked") -> dict[Path, Source]:
    """Every parameter of the base model, by its path in our tree."""
    D, V = spec.hidden_size, spec.vocab_size
    family = families()[spec.family]
    sources: dict[Path, Source] = {
        ("embedding",): Source((embedding_name(spec),), (V, D), False, False),
        ("final_norm", "scale"): Source((f"{family.prefix}norm.weight",), (D,), False, False),
    }
    if not spec.tie_embeddings:
        sources["head",] = Source((HEAD,), (V, D), False, True)
    layers = _layer_prefixes(spec)
    for norm, size in spec.norms.items():
        names = tuple(f"{layer}{family.norms[norm]}.weight" for layer in layers)
        sources |= _of_layers((norm, "scale"), Source(names, (size,), True, False), layout)
    for name, (into, out) in spec.projections.items():
        prefixes = [f"{layer}{_MODULES[name]}.{name}" for layer in layers]
        weights = tuple(f"{prefix}.weight" for prefix in prefixes)
        sources |= _of_layers((name, "kernel"), Source(weights, (out, into), True, True), layout)
        if spec.has_bias(name):
            biases = tuple(f"{prefix}.bias" for prefix in prefixes)
            sources |= _of_layers((name, "bias"), Source(biases, (out,), True, False), layout)
    return sources


def _of_layers(path: tuple[str, str], stacked: Source, layout: Layout) -> dict[Path, Source]:
    """A parameter of all layers, as one or as one for each layer."""
    if layout == "stacked":
        return {("layers", *path): stacked}
    return {
        ("layers", i, *path): Source((name,), stacked.shape, False, stacked.transpose)
        for i, name in enumerate(stacked.names)
    }


def adapter_sources(spec: ModelSpec, targets: tuple[str, ...], rank: int) -> dict[Path, Source]:
    """Every parameter of a LoRA adapter on `targets`, under PEFT's names."""
    sources: dict[Path, Source] = {}
    for name in targets:
        into, out = spec.projections[name]
        prefixes = [f"{PEFT_PREFIX}{layer}{_MODULES[name]}.{name}" for layer in _layer_prefixes(spec)]
        a = tuple(f"{prefix}.lora_A.weight" for prefix in prefixes)
        b = tuple(f"{prefix}.lora_B.weight" for prefix in prefixes)
        sources[name, "a"] = Source(a, (rank, into), True, False)
        sources[name, "b"] = Source(b, (out, rank), True, True)
    return sources


def adapter_modules(spec: ModelSpec) -> dict[str, tuple[str, int]]:
    """`(projection, layer)` of every module that an adapter can be on, by the module's name in transformers."""
    return {
        f"{layer}{_MODULES[name]}.{name}": (name, i)
        for name in spec.projections
        for i, layer in enumerate(_layer_prefixes(spec))
    }


def parse_adapter_tensor(name: str) -> tuple[str, str, str | None] | None:
    """`(module, "A" or "B", name of the adapter)` of a LoRA tensor; None for any other tensor.

    Files that were written without PEFT's own saving keep the adapter's name, `...q_proj.lora_A.default.weight`, and
    the names of modules that wrap others in training.
    """
    name = re.sub(r"(?<![^.])(?:_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.", "", name)
    found = re.fullmatch(rf"{re.escape(PEFT_PREFIX)}(.+)\.lora_([AB])(?:\.([^.]+))?\.weight", name)
    return None if found is None else (found[1], found[2], found[3])


def may_be_absent(name: str, spec: ModelSpec) -> bool:
    """Tensors that some exports write although they carry nothing: tied heads, old rotary tables."""
    return (name == HEAD and spec.tie_embeddings) or name.endswith("rotary_emb.inv_freq")
