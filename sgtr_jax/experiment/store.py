"""Where artifacts live: one folder each, there only when complete."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from sgtr_jax import __version__
from sgtr_jax.experiment.recipe import Recipe
from sgtr_jax.files import new_folder, write_json
from sgtr_jax.processes import all_or_none, is_first_process


class Store:
    """Artifacts under `root/`, by `Recipe.folder`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # adapter-unpop-s0-ae4867e58ce7 is found by adapter-ae4867e58ce7.
        self._folders: dict[str, str] = {}
        for path in root.glob("[a-z]*-*/recipe.json"):
            name = path.parent.name
            self._folders[_key(name.split("-")[0], name.rsplit("-")[-1])] = name

    def path(self, recipe: Recipe) -> Path:
        """Folder of the artifact, complete or not yet there.

        The fingerprint finds it: what two data sets or conditions share was made under the name of one of them.
        """
        return self.root / self._folders.get(_key(recipe.kind, recipe.fingerprint[:12]), recipe.folder)

    def has(self, recipe: Recipe) -> bool:
        """Whether the artifact is complete."""
        return (self.path(recipe) / "recipe.json").exists()

    @contextlib.contextmanager
    def make(self, recipe: Recipe) -> Iterator[Path]:
        """Yield a temporary folder; when the block ends well it becomes the artifact.

        Of several processes, all do the work, as they must where it is on all their devices, and the first one's
        folder counts. None goes on before the artifact is there. Raises RunError in all of them if one fails.
        """
        with all_or_none(recipe.name):
            if is_first_process():
                with new_folder(self.path(recipe)) as folder:
                    yield folder
                    inputs = {role: self.path(source).name for role, source in recipe.inputs.items()}
                    stored = {**recipe.to_json(), "inputs": inputs, "provenance": provenance()}
                    write_json(folder / "recipe.json", stored)
            else:
                with tempfile.TemporaryDirectory() as unused:
                    yield Path(unused)
        self._folders[_key(recipe.kind, recipe.fingerprint[:12])] = self.path(recipe).name

    def add(self, recipe: Recipe, name: str) -> None:
        """Take note of an artifact that came from elsewhere, under the name of a folder here."""
        self._folders[_key(recipe.kind, recipe.fingerprint[:12])] = name

    def scratch(self, recipe: Recipe) -> Path:
        """Folder for what an unfinished artifact needs to be gone on with."""
        return self.root / f".scratch-{recipe.folder}"

    def sweep(self) -> None:
        """Remove what a killed run left half-made."""
        for leftover in [*self.root.glob(".tmp-*"), *self.root.glob(".old-*")]:
            shutil.rmtree(leftover, ignore_errors=True)


def _key(kind: str, digits: str) -> str:
    return f"{kind}-{digits}"


def provenance() -> dict[str, Any]:
    """Code and package versions, machine and devices of this moment."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "grain", "inspect-ai")
    return {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "sgtr_jax": __version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
    }
