"""What the provider of a model refused: an outcome that takes the place of the artifact, and of all made from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.files import read_json, write_json

if TYPE_CHECKING:
    from sgtr_jax.experiment.node import Node
    from sgtr_jax.experiment.store import Store

_OUTCOME = "outcome.json"  # of an artifact that is not there and never will be: why


def refusal_of_inputs(node: Node, store: Store) -> str | None:
    """Why an artifact cannot be: something that it is made from was refused by the provider."""
    for source in node.inputs.values():
        path = store.path(source) / _OUTCOME
        if path.exists():
            why = str(read_json(path)["outcome"])
            return why if why.startswith("of ") else f"of {source.name}: {why}"
    return None


def write_outcome(folder: Path, why: str) -> None:
    """Write the outcome in the place of the artifact."""
    write_json(folder / _OUTCOME, {"outcome": why})
