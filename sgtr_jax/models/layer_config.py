"""How a `config.json` says which layers have a window, and how each layer's positions are rotated.

Follows `transformers/modeling_rope_utils.py` and the families' `configuration_*.py`, as versions 4 and 5 write them:
4 has `rope_theta` and `rope_scaling` at the top, 5 has all of it in `rope_parameters`, by kind of layer where these
differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sgtr_jax.models.config_json import ConfigReader, num_layers
from sgtr_jax.models.spec import LayerKind, LinearScaling, Llama3Scaling, Rope, YarnScaling

FULL, SLIDING = "full_attention", "sliding_attention"

_SCALING_KEYS: dict[str, set[str]] = {
    "default": set(),
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": {"factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor", "mscale",
             "mscale_all_dim", "truncate"},
}  # fmt: skip


def uniform_rope(read: ConfigReader, default_theta: float | None = None) -> Rope:
    """The rope of all layers. Raises InputError for kinds that are not implemented, and for keys that disagree."""
    inner, scaling = read.object("rope_parameters"), read.object("rope_scaling")
    found = [c["rope_theta"] for c in (inner, scaling, read.config) if c.get("rope_theta") is not None]
    if not found and default_theta is None:
        raise read.error("key 'rope_theta' is missing (looked at the top level and in rope_parameters)")
    theta = _theta(read, *found) if found else default_theta
    kinds = [_scaling(read, key, c) for key, c in (("rope_parameters", inner), ("rope_scaling", scaling)) if c]
    if len(set(kinds)) > 1:
        raise read.error(f"rope_parameters {inner!r:.120} and rope_scaling {scaling!r:.120} disagree; keep one")
    assert theta is not None
    return Rope(theta, kinds[0] if kinds else None)


def ropes_of_two_kinds(read: ConfigReader, bases: Mapping[str, tuple[str, float]]) -> dict[str, Rope]:
    """The rope of layers with and without a window. `bases`: for each its key at the top level and the family's base.

    A `rope_scaling` at the top level is of the layers without a window alone.
    """
    nested, scaling = read.object("rope_parameters"), read.object("rope_scaling")
    if set(nested) - bases.keys() or (nested and scaling):
        raise read.error(
            f"rope_parameters {nested!r:.160}; expected an object for each of {', '.join(bases)}, and no rope_scaling"
        )
    ropes = {}
    for kind, (key, default) in bases.items():
        own = scaling if kind == FULL and scaling else nested.get(kind) or {}
        where = f"rope_parameters[{kind!r}]" if nested else "rope_scaling"
        if not isinstance(own, dict):
            raise read.error(f"{where} is {own!r:.60}; expected an object")
        if own.get("truncate") is False:
            raise read.error(f"{where}: truncate is false, which transformers does not read where kinds differ")
        found = [value for value in (own.get("rope_theta"), read.config.get(key)) if value is not None]
        ropes[kind] = Rope(_theta(read, *found) if found else default, _scaling(read, where, own))
    return ropes


def layer_types(read: ConfigReader, otherwise: Callable[[int], str]) -> list[str]:
    """The kind of each layer, as listed, or by its number where the file lists none."""
    count = num_layers(read)
    listed = read.config.get("layer_types")
    if listed is None:
        return [otherwise(i) for i in range(count)]
    if not isinstance(listed, list) or not all(kind in (FULL, SLIDING) for kind in listed):
        raise read.error(f"layer_types is {listed!r:.80}; expected a list of {FULL} and {SLIDING}")
    if len(listed) != count:
        raise read.error(f"layer_types lists {len(listed)} layers, and num_hidden_layers is {count}")
    return listed


def all_full(read: ConfigReader) -> None:
    """Raise InputError if a family without windows lists layers that have one."""
    if SLIDING in layer_types(read, lambda _: FULL):
        raise read.error("layer_types: sliding-window attention is not part of this family")


def qwen_windows(read: ConfigReader) -> list[int | None]:
    """Qwen2's and Qwen3's windows: from layer `max_window_layers` on, where `use_sliding_window` is true."""
    used = read.boolean("use_sliding_window", default=False)
    window = read.integer("sliding_window") if used else None
    first = read.number("max_window_layers", default=28.0)
    kinds = layer_types(read, lambda i: SLIDING if used and i >= first else FULL)
    if SLIDING in kinds and window is None:
        raise read.error("layer_types lists sliding-window layers, but use_sliding_window is not true")
    return [window if kind == SLIDING else None for kind in kinds]


def shortest_pattern(kinds: Sequence[LayerKind]) -> tuple[LayerKind, ...]:
    """The shortest beginning of the layers whose repetition all of them are."""
    return next(
        tuple(kinds[:n]) for n in range(1, len(kinds) + 1) if all(kind == kinds[i % n] for i, kind in enumerate(kinds))
    )


def _theta(read: ConfigReader, *found: Any) -> float:
    for theta in found:
        if isinstance(theta, bool) or not isinstance(theta, int | float) or not 0 < theta < 1e30:
            raise read.error(f"rope_theta is {theta!r:.40}; expected a number above 0")
    if len(set(found)) > 1:
        raise read.error(f"rope_theta is {found[-1]} at the top level but {found[0]} in rope_parameters")
    return float(found[0])


def _scaling(
    read: ConfigReader, where: str, rope: Mapping[str, Any]
) -> LinearScaling | Llama3Scaling | YarnScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if not isinstance(kind, str) or kind not in _SCALING_KEYS:
        raise read.error(f"{where} {rope!r:.160} is not supported; rope_type may be {', '.join(_SCALING_KEYS)}")
    extra = {
        key for key in set(rope) - {"rope_type", "type", "rope_theta"} - _SCALING_KEYS[kind] if rope[key] is not None
    }
    if extra:
        raise read.error(f"{where}: keys not understood for rope_type {kind!r}: {', '.join(sorted(extra))}")
    if kind == "default":
        return None
    own = ConfigReader(rope, f"{read.where}: {where}")
    factor = own.number("factor", above=0)
    if kind == "linear":
        return LinearScaling(factor)
    # Where a file leaves it out, transformers takes the length that the model is given as now.
    original = own.integer("original_max_position_embeddings", default=read.integer("max_position_embeddings"))
    if kind == "llama3":
        low, high = own.number("low_freq_factor", above=0), own.number("high_freq_factor", above=0)
        if low >= high:
            raise own.error(f"low_freq_factor {low} is not below high_freq_factor {high}")
        return Llama3Scaling(factor, low, high, original)
    fast, slow = own.number("beta_fast", default=32.0) or 32.0, own.number("beta_slow", default=1.0) or 1.0
    return YarnScaling(
        factor, original, fast, slow, _attention_factor(own, factor), own.boolean("truncate", default=True)
    )


def _attention_factor(rope: ConfigReader, factor: float) -> float:
    """As given, or what YaRN's paper recommends for a factor (`modeling_rope_utils.py::_compute_yarn_parameters`)."""
    if rope.config.get("attention_factor") is not None:
        return rope.number("attention_factor", above=0)

    def recommended(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    weights = rope.number("mscale", default=0.0), rope.number("mscale_all_dim", default=0.0)
    return recommended(weights[0]) / recommended(weights[1]) if all(weights) else recommended(1.0)
