"""The state of one run on disk (Orbax), each step's folder there only when complete.

A checkpoint belongs to a run, not to the runs that happened to share its batch: after an interruption runs may be
batched in another way, on another mesh, at different steps.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import cast

import jax
import orbax.checkpoint as ocp

from sgtr_jax.distributed.collectives import collective_section, is_first_process
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.sealed import FileFacts, compared, files_of, read_sealed, set_aside, write_sealed
from sgtr_jax.train.config import CheckpointConfig
from sgtr_jax.train.step import TrainState

_ANEW = "Remove the folder to start anew"


class Checkpoints:
    """The checkpoints of one run under `folder`. `identity` is everything that decides the run's outcome."""

    def __init__(self, folder: Path, identity: JsonObject, config: CheckpointConfig) -> None:
        self.folder, self.identity = folder, identity
        self._keep = config.keep
        self._saving: int | None = None
        self._opened: ocp.CheckpointManager | None = None

    @property
    def _manager(self) -> ocp.CheckpointManager:
        if self._opened is None:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep,
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._record),
            )
            self._opened = ocp.CheckpointManager(self.folder.absolute(), options=options)
        return self._opened

    def check(self) -> int | None:
        """The step that would be resumed from, or None. Raises InputError if the checkpoint is another run's.

        Checkpoints that are not as they were written are set aside, and the one before is gone on with.
        """
        with collective_section(f"looking at {self.folder}"):
            if is_first_process() and self.folder.is_dir():
                self._set_aside_damaged()
        if not self.folder.is_dir() or (step := self._manager.latest_step()) is None:
            return None
        try:
            stored = self._manager.restore(step, args=ocp.args.Composite(identity=ocp.args.JsonRestore()))["identity"]
        except (ValueError, KeyError, TypeError, OSError) as error:  # of an older version, without a record
            raise InputError(f"{self.folder}: step {step} cannot be read: {error}. {_ANEW}") from None
        differing = list(_differences(stored, self.identity))
        if differing:
            raise InputError(
                f"{self.folder}: the checkpoint is of another run: {'; '.join(differing)}. "
                "Give the same settings to go on with it, another output folder, or delete the folder to start anew"
            )
        return int(step)

    def _record(self) -> None:
        """Write down the files of a step; called by Orbax, in a thread of its own, before it renames the folder."""
        if is_first_process() and self._saving is not None:
            (folder,) = self.folder.glob(f"{self._saving}.*tmp*")
            files = {name: known for name, known in files_of(folder).items() if _is_read(name)}
            write_sealed(self._record_of(self._saving), {"files": files})

    def _record_of(self, step: int) -> Path:
        return self.folder.with_name(f"{self.folder.name}.records") / f"{step}.json"

    def _set_aside_damaged(self) -> None:
        """Rename every step that is not as it was written, and every one without a record if any has one."""
        steps = sorted(int(path.name) for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit())
        recorded = any(self._record_of(step).exists() for step in steps)
        for step in steps if recorded else ():
            folder = self.folder / str(step)
            try:
                found = compared(folder, cast(dict[str, FileFacts], read_sealed(self._record_of(step))["files"]))
            except (InputError, KeyError):
                found = ["its record is not there or damaged"]
            if found:
                aside = set_aside(folder.rename(self.folder.with_name(f"{self.folder.name}.{step}")))
                print(f"{folder}: damaged: {'; '.join(found)}. Set aside as {aside}", file=sys.stderr)

    def restore(self, like: TrainState) -> TrainState:
        """The latest state, laid out as `like` (arrays or `ShapeDtypeStruct`s with shardings)."""
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        step = self._manager.latest_step()
        try:
            restored = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(_named_leaves(abstract)))
            )["state"]
        except Exception as error:
            raise RunError(f"{self.folder}: step {step} cannot be read: {str(error)[:200]}. {_ANEW}") from error
        leaves = [restored[f"{i:05d}"] for i in range(len(restored))]
        state: TrainState = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return state

    def save(self, step: int, state: TrainState) -> None:
        """Begin to save; `wait` until it is done. Raises RunError when the disk refuses this or the save before."""
        self.wait()  # its record names the step that is being saved
        self._saving = step
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(_named_leaves(state)), identity=ocp.args.JsonSave(self.identity)
                ),
                force=True,
            )
        except (ValueError, OSError) as error:  # what a full disk is to Orbax
            raise RunError(f"{self.folder}: the checkpoint could not be written: {str(error)[-200:]}") from error

    def wait(self) -> None:
        """Return when everything is on disk. Raises RunError when it could not be written."""
        if self._opened is None:
            return
        try:
            self._opened.wait_until_finished()
        except (ValueError, OSError) as error:
            raise RunError(f"{self.folder}: the checkpoint could not be written: {str(error)[-200:]}") from error

    def remove(self) -> None:
        """Delete all checkpoints: the run has ended and its result is in place."""
        if self._opened is not None:
            self.wait()
            self._opened.close()
            self._opened = None
        if jax.process_index() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self._record_of(0).parent, ignore_errors=True)


def _is_read(name: str) -> bool:
    """Whether a file of a step says something of the state: not the marks that Orbax puts there at the end."""
    return "/" in name and not name.endswith("commit_success.txt")


def _named_leaves(state: TrainState) -> dict[str, jax.Array]:
    return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}


def _differences(stored: Json, own: Json, key: str = "") -> list[str]:
    """`lr: 1e-05 in the checkpoint, 2e-05 here` for every key that differs."""
    if isinstance(stored, dict) and isinstance(own, dict):
        return [
            line
            for name in sorted({*stored, *own})
            for line in _differences(stored.get(name), own.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if stored == own else [f"{key}: {stored!r} in the checkpoint, {own!r} here"]
