"""Shapes of the study's models, which ship so that nothing need be downloaded to plan."""

from __future__ import annotations

import json
from pathlib import Path

from sgtr_jax.data.registry import configs_folder
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.models.spec import ModelSpec


def is_shipped(name: str) -> bool:
    """Whether there are shapes of a model of this name, without its owner."""
    return _path(name).exists()


def shipped_spec(name: str) -> ModelSpec:
    """A model's shapes from `configs/models`."""
    return spec_from_config(json.loads(_path(name).read_text()), str(_path(name)))


def _path(name: str) -> Path:
    return configs_folder() / "models" / f"{name}.json"
