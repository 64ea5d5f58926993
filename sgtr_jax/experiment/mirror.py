"""A second home for finished artifacts, in a bucket: a run goes on from it on another machine.

An artifact's `recipe.json` is uploaded last: what has none there is not complete, and is not fetched.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sgtr_jax.buckets import translate_storage_errors
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.adopt import record_older
from sgtr_jax.experiment.node import Node, key_of
from sgtr_jax.experiment.store import Store, damage_of
from sgtr_jax.sealed import is_older

REPORT_FILES = (
    "experiment.json", "failures.json", "results.csv", "summary.csv", "results.tex", "contrasts.csv", "contrasts.tex",
    "judges.csv", "directions.csv", "report.html",
)  # fmt: skip


class Mirror:
    """Artifacts under `address/store`, in folders named as in the store."""

    def __init__(self, address: str) -> None:
        """Raises InputError for an address whose kind is not known, or whose package is not installed."""
        import fsspec

        self.address = address.rstrip("/")
        try:
            self._files, self._root = fsspec.core.url_to_fs(f"{self.address}/store")
        except (ImportError, ValueError) as error:
            raise InputError(f"mirror {address!r}: {error} (gs:// needs: pip install 'sgtr-jax[gcs]')") from None

    def keys(self) -> set[str]:
        """The artifacts that are complete there, as `KIND-DIGITS` of their fingerprints. Raises RunError."""
        with translate_storage_errors(self.address):
            self._files.invalidate_cache()
            found = self._files.glob(f"{self._root}/*/recipe.json")
        return {key_of(Path(path).parent.name) for path in found if ".damaged-" not in path}

    def fetch(self, nodes: Sequence[Node], store: Store) -> int:
        """Bring those of `nodes` that the store lacks and the mirror has. Returns how many. Raises RunError."""
        with translate_storage_errors(self.address):
            self._files.invalidate_cache()
            try:
                names = {Path(path).name for path in self._files.ls(self._root, detail=False)}
            except FileNotFoundError:
                return 0
        by_key = {key_of(name): name for name in names if ".damaged-" not in name}
        fetched = 0
        for node in nodes:
            name = by_key.get(node.key)
            if store.has(node) or name is None:
                continue
            there, here = f"{self._root}/{name}", store.root / name
            if not self._files.exists(f"{there}/recipe.json"):
                continue
            temporary = store.root / f".tmp-{name}"
            shutil.rmtree(temporary, ignore_errors=True)
            self._move(partial(self._files.get, there, str(temporary), recursive=True), name)
            found = record_older(temporary) if is_older(temporary) else damage_of(temporary, True, node)
            if found:
                shutil.rmtree(temporary)
                print(f"{there}: damaged: {'; '.join(found)}. Not fetched, but made again", file=sys.stderr)
                continue
            temporary.rename(here)
            store.add(node, name)
            fetched += 1
        return fetched

    def send(self, node: Node, store: Store) -> None:
        """Upload a complete artifact, its node last. Raises RunError; the artifact here is whole all the same."""
        folder = store.path(node)
        there = f"{self._root}/{folder.name}"
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "recipe.json")
        for path in [*files, folder / "recipe.json"]:
            self._upload(path, f"{there}/{path.relative_to(folder).as_posix()}", folder.name)

    def fetch_file(self, path: Path) -> None:
        """Bring a file of the run folder that is not here, if the mirror has it. Raises RunError."""
        there = f"{self._root.rpartition('/')[0]}/{path.name}"
        with translate_storage_errors(self.address):
            wanted = not path.exists() and self._files.exists(there)
        if wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._move(lambda: self._files.get_file(there, str(path)), path.name)

    def send_file(self, path: Path) -> None:
        """Upload a file of the run folder, if it is here. Raises RunError."""
        if path.is_file():
            self._upload(path, f"{self._root.rpartition('/')[0]}/{path.name}", path.name)

    def send_report(self, folder: Path) -> None:
        """Upload a run's tables, figures and page. Raises RunError."""
        there = self._root.rpartition("/")[0]
        for path in [folder / name for name in REPORT_FILES] + sorted((folder / "figures").glob("*")):
            if path.is_file():
                self._upload(path, f"{there}/{path.relative_to(folder).as_posix()}", path.name)

    def _upload(self, path: Path, target: str, name: str) -> None:
        def upload() -> None:
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), target)

        self._move(upload, name)

    def _move(self, action: Callable[[], object], name: str) -> None:
        with translate_storage_errors(f"{self.address}, {name}"):
            action()
