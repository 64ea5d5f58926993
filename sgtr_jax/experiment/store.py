"""Where artifacts live: one folder each, there only when complete."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sgtr_jax import __version__
from sgtr_jax.distributed.collectives import collective_section, is_first_process
from sgtr_jax.experiment.adopt import record_older
from sgtr_jax.experiment.node import Node, key_of, kinds
from sgtr_jax.files import new_folder
from sgtr_jax.json_types import JsonObject
from sgtr_jax.report.run_file import Provenance
from sgtr_jax.sealed import RECORD, damage, is_older, read_record, set_aside, write_record

_ARTIFACT = re.compile(r"([a-z_]+)-.*-[0-9a-f]{12}")


def is_artifact(folder: str) -> bool:
    """Whether a folder's name is that of an artifact."""
    found = _ARTIFACT.fullmatch(folder)
    return found is not None and found[1] in kinds()


class Store:
    """Artifacts under `root/`, by `Node.folder`. One that is damaged counts as not there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._started: datetime.datetime | None = None
        self.look()

    def start_clock(self) -> None:
        """Say that work on the next artifacts begins. When one is there, the work on the one after it begins."""
        self._started = _now()

    def look(self) -> None:
        """Take note of what is in the store, which another process may have changed."""
        # adapter-unpop-s0-ae4867e58ce7 is found by adapter-ae4867e58ce7.
        self._folders: dict[str, str] = {}
        self._damage: dict[str, list[str]] = {}  # of folders that were looked at
        for path in self.root.glob("[a-z]*-*"):
            if is_artifact(path.name):
                self._folders[key_of(path.name)] = path.name

    def path(self, node: Node) -> Path:
        """Folder of the artifact, complete or not yet there.

        The fingerprint finds it: what two data sets or conditions share was made under the name of one of them.
        """
        return self.root / self._folders.get(node.key, node.folder)

    def has(self, node: Node) -> bool:
        """Whether the artifact is complete: all files of its record there, of their sizes, and small ones unchanged."""
        return self.is_there(node) and not self.damage(node)

    def is_there(self, node: Node) -> bool:
        """Whether there is anything in the artifact's place, whole or not."""
        return node.key in self._folders

    def damage(self, node: Node, whole: bool = False) -> list[str]:
        """What is wrong with an artifact that is there; with `whole` the digests of big files are compared, too.

        A folder is looked at once; with `whole` it is looked at again. An older one that can be read is not damaged.
        """
        folder = self.path(node)
        if whole or folder.name not in self._damage:
            self._damage[folder.name] = [] if is_older(folder) else damage_of(folder, whole, node)
        return self._damage[folder.name]

    def settle(self, nodes: Sequence[Node]) -> list[str]:
        """Set damaged artifacts aside, so that they are made again, and give older ones a record of their files.

        `nodes` are in the order in which they are made. Of those that something will be made from, big files are
        read, too. Returns a sentence for each that was set aside, and one about all older ones.
        """
        said, older, used = [], 0, set[str]()
        for node in reversed(nodes):  # what is made from others before these
            if self.is_there(node):
                folder = self.path(node)
                if is_older(folder):
                    found = record_older(folder)
                    older += not found
                    self._damage[folder.name] = found
                else:
                    found = self.damage(node, whole=node.fingerprint in used)
                if not found:
                    continue
                aside = self._set_aside(node)
                said.append(f"{folder.name}: damaged: {'; '.join(found)}. Set aside as {aside.name}, and made again")
            used |= {source.fingerprint for source in node.inputs.values()}
        if older:
            said.append(
                f"{older} artifacts of an older version had no record of their files. They can be read, and have one "
                "now; whether they are as they were made cannot be known"
            )
        return said

    def _set_aside(self, node: Node) -> Path:
        aside = set_aside(self.path(node))
        self._damage.pop(self._folders.pop(node.key), None)
        return aside

    @contextlib.contextmanager
    def make(self, node: Node) -> Iterator[Path]:
        """Yield a temporary folder; when the block ends well it becomes the artifact.

        Of several processes, all do the work, as they must where it is on all their devices, and the first one's
        folder counts. None goes on before the artifact is there. Raises RunError in all of them if one fails.
        """
        if is_first_process() and self.is_there(node):
            self._set_aside(node)

        def content() -> JsonObject:
            inputs = {role: self.path(source).name for role, source in node.inputs.items()}
            return {**node.to_json(), "inputs": inputs}

        with finished_folder(self.path(node), node.name, content, self._started) as folder:
            yield folder
        self.start_clock()
        self.add(node, self.path(node).name)

    def add(self, node: Node, name: str) -> None:
        """Take note of an artifact that was made or came from elsewhere, under the name of a folder here."""
        self._folders[node.key] = name
        self._damage[name] = []

    def scratch(self, node: Node) -> Path:
        """Folder for what an unfinished artifact needs to be gone on with."""
        return self.root / f".scratch-{node.folder}"

    def sweep(self) -> None:
        """Remove what a killed run left half-made."""
        for leftover in [*self.root.glob(".tmp-*"), *self.root.glob(".old-*")]:
            shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def finished_folder(
    target: Path, what: str, content: Callable[[], JsonObject], started: datetime.datetime | None = None
) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target`, with a record of its files, when the block ends well.

    The record says when the work on it `started`: by default, when the block began.

    In all processes of a job but the first it is thrown away. Raises RunError in all of them if one fails.
    """
    began = started or _now()
    with collective_section(what):
        if is_first_process():
            with new_folder(target) as folder:
                yield folder
                write_record(folder, {**content(), "provenance": provenance(began)})
        else:
            with tempfile.TemporaryDirectory() as unused:
                yield Path(unused)


def damage_of(folder: Path, whole: bool, node: Node) -> list[str]:
    """What is wrong with a folder that should hold the artifact of `node`; see `sealed.damage`."""
    found = damage(folder, whole)
    if not found and (stored := read_record(folder).get("fingerprint")) != node.fingerprint:
        return [f"{RECORD} is of another artifact, {str(stored)[:12]}"]
    return found


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def provenance(started: datetime.datetime) -> Provenance:
    """Code and package versions, machine and devices of this moment, and when the work began that ends now."""
    import jax

    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "grain", "inspect-ai")
    return {
        "started": started.isoformat(timespec="seconds"),
        "made": _now().isoformat(timespec="seconds"),
        "sgtr_jax": __version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
    }
