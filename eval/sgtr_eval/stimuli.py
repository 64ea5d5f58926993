"""What evaluations ask: the study's sets, which are fetched, or this project's own, which ship with it.

The own ones have the same form and are fewer. Rates on them are not comparable with published ones.
"""

from __future__ import annotations

from importlib import resources
from typing import cast

from sgtr_jax.data.build import Stimuli
from sgtr_jax.data.fetch import load_set
from sgtr_jax.data.registry import find
from sgtr_jax.data.set_files import Rows
from sgtr_jax.errors import InputError
from sgtr_jax.yaml_text import parse_yaml


def stimuli_rows(name: str, stimuli: Stimuli) -> Rows:
    """Rows of the set `name`, or those of ours that stand for it. Raises InputError for another word."""
    if stimuli not in ("builtin", "published"):
        raise InputError(f"stimuli {stimuli!r}: expected 'builtin' or 'published'")
    if stimuli == "published":
        return load_set(find(name))
    file = resources.files("sgtr_eval").joinpath("builtin", f"{name}.yaml")
    return cast(Rows, parse_yaml(file.read_text(encoding="utf-8"), f"{name}.yaml"))
