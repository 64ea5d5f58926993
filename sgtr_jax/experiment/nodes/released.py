"""Adapters and checkpoints of others, from the hub or a folder, that conditions start from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.distributed.collectives import is_first_process
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.asked import Base
from sgtr_jax.experiment.node import MadeNode, Settings
from sgtr_jax.experiment.start import Start
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.training_node import Link
from sgtr_jax.files import write_json
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.json_types import Json
from sgtr_jax.report.run_file import SOURCE, Source, at_commit, read_source
from sgtr_jax.sample.folders import ADAPTER_FILES, HubFiles, adapter_folder, hub_files, resolve_folder
from sgtr_jax.weights.adapter_fingerprint import adapter_fingerprint

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext


@dataclass(frozen=True, eq=False)
class Released(Link, MadeNode):
    """`source.json`, which names the commit that was found; of an adapter also its files, in `adapter/`."""

    kind = "released"
    version = 1
    name: str
    base: Base
    is_adapter: bool
    source: str
    revision: str
    content: str | None  # digest of a local folder; None: on the hub

    @property
    def replaces_base(self) -> bool:
        """See `Link`."""
        return not self.is_adapter

    @property
    def settings(self) -> Settings:
        """See `Node`. What is on the hub is known by its name and revision before anything is downloaded."""
        what: dict[str, Json] = {"adapter" if self.is_adapter else "model": self.source}
        pinned: dict[str, Json] = {"revision": self.revision} if self.content is None else {"content": self.content}
        return {**self.base.identity(), **what, **pinned}

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`. A checkpoint stays where it is, or is downloaded when it is first sampled from."""
        if not is_first_process():
            return
        found = None if self.content is not None else hub_files(self.source, self.revision)
        self._check_kind(found)
        if self.is_adapter:
            there = Path(self.source) if found is None else adapter_folder(self.source, found.commit)
            adapter_fingerprint(there)  # says what is wrong with its settings
            (folder / "adapter").mkdir()
            for name in ADAPTER_FILES:
                if (there / name).is_file():
                    shutil.copyfile(there / name, folder / "adapter" / name)
        else:
            self._check_family(found)
        write_json(folder / SOURCE, Source(name=self.source, commit=None if found is None else found.commit))

    def _check_kind(self, found: HubFiles | None) -> None:
        """Raises InputError for a checkpoint that is called an adapter, and the other way round."""
        names = [path.name for path in Path(self.source).iterdir()] if found is None else found.names
        if ("adapter_config.json" in names) != self.is_adapter:
            said, is_a = ("adapter", "model") if self.is_adapter else ("model", "adapter")
            raise InputError(
                f"{said} {self.source!r}: {'has no' if self.is_adapter else 'has an'} adapter_config.json; "
                f"if it is {'a whole checkpoint' if self.is_adapter else 'an adapter'}, write {{{is_a}: {self.source}}}"
            )

    def _check_family(self, found: HubFiles | None) -> None:
        """Raises InputError for a checkpoint that is not of the base's family and sizes."""
        from sgtr_jax.sample.model import read_spec

        there = self.source if found is None else f"{self.source}@{found.commit}"
        own, base = read_spec(resolve_folder(there, weights=False)), read_spec(resolve_folder(self.base.model))
        for what in ("family", "num_layers", "hidden_size", "intermediate_size", "num_heads", "num_kv_heads"):
            mine, other = getattr(own, what), getattr(base, what)
            if mine != other:
                raise InputError(
                    f"model {self.source!r}: its {what} is {mine}, that of {self.base.model} is {other}; a condition "
                    "starts from a finetuned checkpoint of the experiment's model"
                )


def released(start: Start, seed: int, base: Base) -> Released:
    """The node of a start at a seed. Raises InputError for a folder that cannot be read."""
    source, is_adapter = start.at(seed), start.adapter is not None
    folder, content = Path(source), None
    if folder.is_dir():
        content = adapter_fingerprint(folder) if is_adapter else model_fingerprint(folder)
    elif source.count("/") != 1 or source.startswith(("/", ".")):
        raise InputError(f"{source!r}: no such folder, and not a hub id (owner/name)")
    return Released(folder.name, base, is_adapter, source, start.revision, content)


def base_below(base: str, chain: Sequence[Link], store: Store) -> str:
    """The name of the model that a chain's adapters are on: `base`, or the checkpoint that the chain starts from."""
    first = chain[0] if chain else None
    if not isinstance(first, Released) or not first.replaces_base:
        return base
    source = read_source(store.path(first))
    assert source is not None  # `Released.make` writes it
    return at_commit(source)


def adapters_on(chain: Sequence[Link], store: Store) -> tuple[Path, ...]:
    """The PEFT folders of a chain, in order."""
    return tuple(store.path(link) / "adapter" for link in chain if not link.replaces_base)
