"""The executor: makes what is missing of an experiment, in order, together where that is cheaper, past what fails."""

from __future__ import annotations

import datetime
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.distributed.collectives import collective_section, is_first_process
from sgtr_jax.errors import InputError, Interrupted, RunError
from sgtr_jax.experiment.evaluation_node import EvaluationNode
from sgtr_jax.experiment.node import MadeNode, Node
from sgtr_jax.experiment.refusals import refusal_of_inputs, write_outcome
from sgtr_jax.experiment.run_left import Done, Work, seconds_left
from sgtr_jax.experiment.training_node import TrainingNode
from sgtr_jax.files import write_json
from sgtr_jax.json_types import Json
from sgtr_jax.progress import Overall
from sgtr_jax.report.tables import read_failures

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.work_share import WorkShare


@dataclass
class Outcome:
    """What was not made: nodes that failed, with the reason, and those that needed one of them."""

    failed: dict[str, str] = field(default_factory=dict)  # node: why
    left: list[str] = field(default_factory=list)


def run_graph(
    missing: Sequence[Node],
    context: RunContext,
    failures: Path,
    share: WorkShare,
    report: Callable[[], None] = lambda: None,
) -> Outcome:
    """Make everything: data first, then adapters, as many together as are ready, then what is measured on them.

    What does not depend on a node that fails is made all the same. Reasons and tracebacks go to the file `failures`.
    `share` says what of it is made here, and is told what was. `report` is called by the first process whenever
    something is made and more is to come.
    """
    return _Executor(missing, context, failures, share, report).run()


class _Executor:
    def __init__(
        self,
        missing: Sequence[Node],
        context: RunContext,
        failures: Path,
        share: WorkShare,
        report: Callable[[], None],
    ) -> None:
        self._missing, self._context, self._failures, self._share = missing, context, failures, share
        self._store = context.store
        self._outcome = Outcome()
        # By node, for names of conditions that differ in their system prompt only are the same.
        self._failed: dict[Node, dict[str, Json]] = {}
        self._one_by_one = False  # whether models are trained one by one
        self._took: list[Done] = []  # of what was made since the start
        self._report = report

    def run(self) -> Outcome:
        with Overall("all", len(self._missing), quiet=not is_first_process()) as self._overall:
            return self._run()

    def _run(self) -> Outcome:
        todo = list(self._missing)
        self._overall.show(0, "")
        while todo:
            batch = self._next_batch(todo)
            if not batch:
                before = len(todo)
                todo = self._after_others(todo)
                if len(todo) == before and (all(map(self._is_hopeless, todo)) or not self._share.wait()):
                    break
                continue
            started = time.monotonic()
            self._store.start_clock()
            failed_before = len(self._failed)
            try:
                # Around all of it, for not only the writing of an artifact can fail in one process.
                with collective_section(f"the work on {batch[0].name}"):
                    for node, why in self._make(batch):
                        if why is not None:
                            self._note_failure(node, why, [])
            except Interrupted:
                raise
            except Exception as error:  # noqa: BLE001 - it is written down, and what does not need it is made
                unmade = [node for node in batch if not self._is_settled(node)]
                if len(unmade) == len(batch) > 1 and not self._one_by_one:
                    # One that cannot be trained must not take those down that would have been trained with it.
                    self._one_by_one = True
                    continue
                for node in unmade:
                    self._note_failure(node, _reason(error), traceback.format_exc().splitlines())
            # Of jobs behind an API some may still be under way.
            settled = [node for node in batch if self._is_settled(node)]
            todo = [node for node in todo if node not in settled]
            self._one_by_one &= any(isinstance(node, TrainingNode) for node in todo)
            seconds = time.monotonic() - started
            self._say_made(settled, len(self._missing) - len(todo), seconds)
            self._took += [(*_work(node), seconds / len(settled), None) for node in settled if self._store.has(node)]
            self._overall.show(len(self._missing) - len(todo), self._left_in_words(todo))
            if is_first_process() and todo:
                self._report()
            self._outcome.left = [node.name for node in todo]
            if len(self._failed) > failed_before:
                self._write_failures()  # for whoever asks how far it is
        self._write_failures()
        return self._outcome

    def _after_others(self, todo: Sequence[Node]) -> list[Node]:
        """What is left to do after what other machines made or failed to make."""
        for node, why in self._share.failed_elsewhere(todo).items():
            self._failed[node] = {"why": why, "traceback": []}
            self._outcome.failed[node.name] = why
        left = [node for node in todo if not self._is_settled(node)]
        self._overall.show(len(self._missing) - len(left), self._left_in_words(left))
        self._outcome.left = [node.name for node in left]
        return left

    def _next_batch(self, todo: Sequence[Node]) -> Sequence[Node]:
        for turn in self._share.turns(todo):
            ready = [node for node in turn if all(map(self._share.is_made, node.inputs.values()))]
            while batch := self._together(ready):
                if claimed := self._share.claim(batch):
                    return claimed
                ready = [node for node in ready if node not in batch]
        return ()

    def _is_hopeless(self, node: Node) -> bool:
        """Whether it failed, or something that it is made from."""
        return node in self._failed or any(
            map(self._is_hopeless, (one for one in node.inputs.values() if not self._share.is_made(one)))
        )

    def _together(self, ready: Sequence[Node]) -> Sequence[Node]:
        """Of what can be made now, what is made next, together."""
        first = [node for node in ready if node.before_training][:1]
        training = [node for node in ready if isinstance(node, TrainingNode)]
        training = [node for node in training if type(node) is type(training[0])]
        return first or (training[:1] if self._one_by_one else training) or ready[:1]

    def _make(self, batch: Sequence[Node]) -> Iterator[tuple[Node, str | None]]:
        training = [node for node in batch if isinstance(node, TrainingNode)]
        if training:
            yield from type(training[0]).train(training, self._context)
        for node in batch:
            if isinstance(node, MadeNode):
                refused = refusal_of_inputs(node, self._store)
                with self._store.make(node) as folder:
                    if refused is None:
                        node.make(self._context, folder)
                    else:
                        write_outcome(folder, refused)
                        node.write_refusal(folder, refused)
                yield node, None

    def _is_settled(self, node: Node) -> bool:
        return self._share.is_made(node) or node in self._failed

    def _note_failure(self, node: Node, why: str, trace: Sequence[str]) -> None:
        self._outcome.failed[node.name] = why
        self._failed[node] = {"why": why, "traceback": list(trace)}
        self._share.failed(node, why)
        _say(f"failed: {node.kind} {node.name}: {why}")

    def _say_made(self, settled: Sequence[Node], done: int, seconds: float) -> None:
        made = [node for node in settled if self._store.has(node)]
        self._share.made(made)
        if made:
            names = ", ".join(node.name for node in made)
            _say(f"[{done}/{len(self._missing)}] {made[0].kind} {names}: {seconds:.1f} s")

    def _left_in_words(self, todo: Sequence[Node]) -> str:
        seconds, unknown = seconds_left(self._took, [_work(node) for node in todo])
        failed = f"{len(self._failed)} failed, " if self._failed else ""
        if not todo:
            return failed
        if unknown == len(todo):
            return f"{failed}time left not known yet"
        left = datetime.timedelta(seconds=round(seconds))
        return failed + (f"{left} left, and {unknown} not timed yet" if unknown else f"about {left} left")

    def _write_failures(self) -> None:
        """Reasons of this time, and those of before of what was not attempted."""
        if not is_first_process():
            return
        attempted = {node.folder for node in self._missing if node.name not in self._outcome.left}
        kept = {
            folder: entry
            for folder, entry in read_failures(self._failures).items()
            if folder not in attempted and not (self._store.root / folder).exists()
        }
        entries = {**kept, **{node.folder: entry for node, entry in self._failed.items()}}
        if entries:
            write_json(self._failures, entries)
        else:
            self._failures.unlink(missing_ok=True)


def reasons(failures: Path) -> dict[str, str]:
    """Artifact: why it could not be made when it was last tried."""
    return {folder: entry["why"] for folder, entry in read_failures(failures).items()}


def _work(node: Node) -> Work:
    """What a node is to those that take as long."""
    return node.kind, node.task if isinstance(node, EvaluationNode) else None


def _reason(error: BaseException) -> str:
    if isinstance(error, RunError | InputError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _say(text: str) -> None:
    if is_first_process():
        print(text, file=sys.stderr)
