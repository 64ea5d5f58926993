"""The model families that can be loaded, one file each; every file of this package is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from sgtr_jax.errors import InputError
from sgtr_jax.models.config_json import COMMON, ConfigReader
from sgtr_jax.models.families.family import Family
from sgtr_jax.models.spec import ModelSpec

# Keys of config.json by which families of mixtures of experts say how many these are.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@cache
def families() -> dict[str, Family]:
    """All families, by `model_type`."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "family")
    found = [importlib.import_module(f"{__name__}.{name}").FAMILY for name in modules]
    return {family.model_type: family for family in found}


def spec_from_config(config: dict[str, Any], where: str) -> ModelSpec:
    """Read a `config.json` object (`where` names it in errors). Raises InputError for anything not understood."""
    name = config.get("model_type")
    if not isinstance(name, str) or name not in families():
        listed = ", ".join(families())
        raise InputError(f"{where}: model_type {name!r:.60} is not supported; supported: {listed}{_why(config)}")
    family = families()[name]
    architectures = config.get("architectures") or [family.architecture]
    if not isinstance(architectures, list) or family.architecture not in architectures:
        raise InputError(f"{where}: architectures {architectures!r:.80}; expected {family.architecture!r} for {name}")
    read = ConfigReader(config, where)
    read.check_keys(name, COMMON | family.keys)
    return family.read(read)


def _why(config: Mapping[str, Any]) -> str:
    """The reason why a mixture of experts is not; nothing of other models."""
    key = next((key for key in _EXPERTS if config.get(key)), None)
    if key is None:
        return ""
    return (
        f". No mixture of experts is ({key} is {config[key]!r:.20}): the decoder here has one MLP in each layer, and "
        "adapters are on its projections"
    )


def text_only(spec: ModelSpec) -> ModelSpec:
    """The spec that a text decoder has by itself: what is written when all of it is."""
    parts = families()[spec.family].parts
    return spec if parts is None else replace(spec, family=parts.text_family)


def config_of_family(config: dict[str, Any], family: str) -> dict[str, Any]:
    """A folder's config.json, or that of its text decoder where `family` names that."""
    parts = families()[config["model_type"]].parts
    return parts.text_config(config) if parts is not None and parts.text_family == family else config


def makers() -> dict[str, tuple[str, ...]]:
    """What counts as naming the maker of a family's models, by the short name that configs use."""
    return {family.maker.key: family.maker.names for family in families().values()}
