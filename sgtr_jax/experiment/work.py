"""Making what is missing of an experiment: in order, together where that is cheaper, past what fails."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.errors import InputError, Interrupted, RunError
from sgtr_jax.experiment.recipe import Recipe
from sgtr_jax.experiment.spending import LEDGER
from sgtr_jax.experiment.store import Store
from sgtr_jax.files import write_json
from sgtr_jax.processes import all_or_none, is_first_process
from sgtr_jax.report.table import read_failures

if TYPE_CHECKING:
    from sgtr_jax.experiment.make import Maker
    from sgtr_jax.experiment.mirror import Mirror

# What is made one by one, before anything is finetuned or measured.
_FIRST = ("articles", "summaries", "pairs", "records", "self_reports", "answers")


@dataclass
class Outcome:
    """What was not made: nodes that failed, with the reason, and those that needed one of them."""

    failed: dict[str, str] = field(default_factory=dict)  # node: why
    left: list[str] = field(default_factory=list)


def make_missing(
    missing: Sequence[Recipe], maker: Maker, store: Store, failures: Path, mirror: Mirror | None = None
) -> Outcome:
    """Make everything: data first, then adapters, as many together as are ready, then what is measured on them.

    What does not depend on a node that fails is made all the same. Reasons and tracebacks go to the file `failures`.
    What is made goes to `mirror` at once; one that cannot be written ends the work, for the next machine needs it.
    """
    todo, done = list(missing), 0
    outcome, traces = Outcome(), {}
    hopeless: set[Recipe] = set()  # failed; names of conditions that differ in their system prompt only are the same
    apart = False  # whether adapters are trained one by one
    while todo:
        ready = [recipe for recipe in todo if all(map(store.has, recipe.inputs.values()))]
        if not ready:
            break
        adapters = [recipe for recipe in ready if recipe.is_training]
        batch = [recipe for recipe in ready if recipe.kind in _FIRST][:1] or (adapters[:1] if apart else adapters)
        batch = batch or ready[:1]
        started = time.monotonic()
        try:
            # Around all of it, for not only the writing of an artifact can fail in one process.
            with all_or_none(f"the work on {batch[0].name}"):
                if batch[0].is_training:
                    for recipe, why in maker.finetune(batch).items():
                        hopeless.add(recipe)
                        outcome.failed[recipe.name] = why
                        traces[recipe.folder] = {"why": why, "traceback": []}
                        _say(f"failed: {recipe.kind} {recipe.name}: {why}")
                else:
                    maker.make(batch[0])
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - it is written down, and what does not need it is made
            unmade = [recipe for recipe in batch if not store.has(recipe)]
            if len(unmade) == len(batch) > 1 and not apart:
                # One that cannot be trained must not take those down that would have been trained with it.
                apart = True
                continue
            hopeless.update(unmade)
            for recipe in unmade:
                outcome.failed[recipe.name] = _reason(error)
                traces[recipe.folder] = {"why": _reason(error), "traceback": traceback.format_exc().splitlines()}
                _say(f"failed: {recipe.kind} {recipe.name}: {_reason(error)}")
        apart = apart and len(adapters) > len(batch)
        # Of jobs behind an API some may still be under way.
        settled = [recipe for recipe in batch if store.has(recipe) or recipe in hopeless]
        todo = [recipe for recipe in todo if recipe not in settled]
        done += len(settled)
        if mirror is not None and is_first_process():
            mirror.send_file(store.root.parent / LEDGER)
            for recipe in settled:
                if store.has(recipe):
                    mirror.send(recipe, store)
        made = [recipe.name for recipe in batch if store.has(recipe)]
        if made:
            seconds = time.monotonic() - started
            _say(f"[{done}/{len(missing)}] {batch[0].kind} {', '.join(made)}: {seconds:.1f} s")
    outcome.left = [recipe.name for recipe in todo]
    if is_first_process():
        attempted = {recipe.folder for recipe in missing if recipe.name not in outcome.left}
        kept = {
            folder: entry
            for folder, entry in read_failures(failures).items()
            if folder not in attempted and not (store.root / folder).exists()
        }
        if kept or traces:
            write_json(failures, {**kept, **traces})
        else:
            failures.unlink(missing_ok=True)
    return outcome


def reasons(failures: Path) -> dict[str, str]:
    """Artifact: why it could not be made when it was last tried."""
    return {folder: entry["why"] for folder, entry in read_failures(failures).items()}


def _reason(error: BaseException) -> str:
    if isinstance(error, RunError | InputError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _say(text: str) -> None:
    if is_first_process():
        print(text, file=sys.stderr)
