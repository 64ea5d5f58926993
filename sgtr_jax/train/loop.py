"""The training loop: many runs over one base, each with its own data, schedule, metrics, checkpoint and end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from sgtr_jax.arrays import Params
from sgtr_jax.data.batches import StepPlan
from sgtr_jax.data.packed_shapes import PackedShapes
from sgtr_jax.data.packing import PackedShape, PackedStep, pack
from sgtr_jax.distributed.memory import memory_in_use
from sgtr_jax.distributed.mesh import data_sharding, put
from sgtr_jax.errors import Interrupted
from sgtr_jax.json_types import JsonObject
from sgtr_jax.progress import Progress
from sgtr_jax.train.checkpoint import Checkpoints
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.interrupt import StopRequest
from sgtr_jax.train.metrics import MetricsLog, Row
from sgtr_jax.train.objective import own_rows
from sgtr_jax.train.profile import Trace
from sgtr_jax.train.program import Programs
from sgtr_jax.train.stack import pick_run, restack, slots_for, stack_runs
from sgtr_jax.train.step import RunConstants, TrainState


@dataclass
class Summary:
    """What a run's report says about its training."""

    steps: int = 0
    tokens: int = 0
    placed: int = 0  # tokens and padding
    seconds: float = 0.0  # compiling not counted

    def add(self, packed: PackedStep, shape: PackedShape, seconds: float) -> None:
        """Count a step."""
        self.steps += 1
        self.tokens += packed.num_tokens
        self.placed += shape.rows * shape.length
        self.seconds += seconds

    def to_json(self) -> dict[str, float]:
        """Numbers for report.json."""
        return {
            "steps": self.steps,
            "tokens": self.tokens,
            "padding_share": round(1 - self.tokens / max(1, self.placed), 4),
            "tokens_per_second": round(self.tokens / self.seconds, 1) if self.seconds else 0.0,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Failure:
    """Why a run stopped: its loss or gradient was not finite at `step`."""

    step: int
    loss: float
    example_ids: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.example_ids[:16]) + (", ..." if len(self.example_ids) > 16 else "")
        return f"step {self.step}: the loss is {self.loss} or its gradient is not finite; examples: {shown}"


@dataclass(eq=False)
class Run:
    """One run of a batch."""

    name: str
    plan: StepPlan
    state: TrainState | None  # where it starts; given up to the loop
    constants: RunConstants
    folder: Path  # metrics.jsonl
    checkpoints: Checkpoints
    settings: JsonObject = field(default_factory=dict)  # shown by Weights & Biases
    keep: frozenset[int] = frozenset()  # steps after which its parameters are handed to `on_kept`
    others: Mapping[str, StepPlan] = field(default_factory=dict)  # rows that only a penalty reads, by its name
    step: int = 0  # steps taken
    summary: Summary = field(default_factory=Summary)


@dataclass(frozen=True)
class EndedRun:
    """A run that has come to its end, with its final parameters, or has failed, with those before the failure."""

    run: Run
    params: Params
    failure: Failure | None


@dataclass(frozen=True)
class _Pending:
    """A step whose metrics are still on the device: (run, number of the step, what was packed) for each slot."""

    taken: tuple[tuple[Run, int, PackedStep], ...]
    shape: PackedShape
    metrics: dict[str, jax.Array]


class Loop:
    """Trains `runs` together over `base` (None: every run trains all parameters)."""

    def __init__(
        self, programs: Programs, base: Params | None, runs: Sequence[Run], shapes: PackedShapes, config: TrainConfig,
        on_kept: Callable[[Run, Params], None] = lambda run, params: None,
        project: Callable[[Run, Params], Row] = lambda run, params: {},
    ) -> None:  # fmt: skip
        self._on_kept, self._project = on_kept, project
        self._projected: dict[tuple[Run, int], Row] = {}  # of steps whose metrics are not yet read
        self._programs, self._base, self._shapes, self._config = programs, base, shapes, config
        self._sharding = data_sharding(programs.mesh, leading=1)
        self._active = list(runs)
        self._total = len(runs)
        self._logs = {
            run: MetricsLog(run.folder, run.name, config.log, run.settings, resume_from=run.step) for run in runs
        }
        self._pending: _Pending | None = None
        self._ended: list[EndedRun] = []  # not yet handed over
        self._trace = Trace(config.profile, runs[0].folder / "profile", self._flush)
        starts = [run.state for run in runs if run.state is not None]
        self._state, self._constants = stack_runs(starts, [run.constants for run in runs], self._total, programs.mesh)
        for run in runs:
            run.state = None  # the stacked copy is the state from here on

    def train(self, label: str) -> Iterator[EndedRun]:
        """Take every run to its end or its failure, and yield it then; its checkpoints are removed after that.

        Raises Interrupted, after saving, when asked to stop.
        """
        longest = max(run.plan.num_steps - run.step for run in self._active)
        self._clock = self._saved = time.monotonic()
        quiet = jax.process_index() != 0
        with StopRequest() as stop, Progress(label, longest, "steps", quiet) as self._progress:
            for count in range(1, longest + 1):
                with self._trace.around(count):
                    self._step()
                self._project_where_due()
                self._keep()
                done = [run for run in self._active if run.step == run.plan.num_steps]
                if done:
                    self._flush()
                    self._leave({run: None for run in done if run in self._active})
                yield from self._hand_over()
                if not self._active:
                    break
                if stop.at(count):
                    yield from self._save(wait=True)
                    where = ", ".join(f"{run.name} at step {run.step}" for run in self._active)
                    raise Interrupted(f"asked to stop; saved {where}. The same command goes on from there")
                if self._save_is_due(count):
                    yield from self._save(wait=False)

    def _keep(self) -> None:
        """Hand over the parameters of runs at a step that is kept, before any later step is saved."""
        if not any(run.step in run.keep for run in self._active):
            return
        self._flush()  # one that has failed at this step leaves
        for i, run in enumerate(self._active):
            if run.step in run.keep:
                self._on_kept(run, pick_run(self._state, i, self._programs.mesh).params)

    def _project_where_due(self) -> None:
        """Look at the model of each run whose step asks for it. The time is none of the step's."""
        asked, started = self._config.log.projections, time.monotonic()
        for i, run in enumerate(self._active if asked is not None else ()):
            if asked is not None and asked.is_due(run.step, run.plan.num_steps):
                params = pick_run(self._state.params, i, self._programs.mesh)
                self._projected[run, run.step] = self._project(run, params)
        self._clock += time.monotonic() - started

    def _hand_over(self) -> Iterator[EndedRun]:
        while self._ended:
            ended = self._ended.pop(0)
            yield ended
            ended.run.checkpoints.remove()

    def _step(self) -> None:
        examples = [run.plan[run.step] for run in self._active]
        shape = self._shapes.pick(examples)
        slots = slots_for(self._total, len(self._active))
        packed = [pack(own, shape) for own in examples]
        batch = self._batch(packed, shape, slots)
        for name, fixed in self._programs.others.items():
            rows = [pack(run.others[name][run.step], fixed) for run in self._active]
            batch |= {own_rows(name) + key: x for key, x in self._batch(rows, fixed, slots).items()}
        compiled = self._programs.compile_seconds
        program = self._programs.get(slots, shape, self._state, self._base, self._constants)
        self._clock += self._programs.compile_seconds - compiled
        self._state, metrics = program(self._state, self._base, self._constants, batch)
        before = self._pending
        for run in self._active:
            run.step += 1
        taken = tuple((run, run.step, step) for run, step in zip(self._active, packed, strict=True))
        self._pending = _Pending(taken, shape, metrics)
        # Read the metrics of the step before while the device works on this one.
        if before is not None:
            self._read(before)

    def _batch(self, packed: Sequence[PackedStep], shape: PackedShape, slots: int) -> dict[str, jax.Array]:
        """A step's arrays with an axis of runs in front; slots without a run hold padding."""
        arrays = [step.arrays() for step in [*packed, *[pack([], shape)] * (slots - len(packed))]]
        return {name: put(np.stack([a[name] for a in arrays]), self._sharding) for name in arrays[0]}

    def _flush(self) -> None:
        """Read what is pending: every run that is then still active has a good state."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._read(pending)

    def _read(self, pending: _Pending) -> None:
        """Log a step. Runs whose loss is not finite leave the batch."""
        metrics = {name: np.asarray(jax.device_get(value)) for name, value in pending.metrics.items()}
        now = time.monotonic()
        seconds, self._clock = now - self._clock, now
        memory = memory_in_use(self._programs.mesh) or self._programs.peak_bytes
        failed: dict[Run, Failure | None] = {}
        losses, tokens = [], 0
        for i, (run, step, packed) in enumerate(pending.taken):
            if run not in self._active:
                continue  # it failed at the step before
            own = {name: float(value[i]) for name, value in metrics.items()}
            loss = own["loss"]
            if not all(map(math.isfinite, own.values())):
                failed[run] = Failure(step, loss, packed.example_ids)
                continue
            row: Row = {
                "step": step,
                "loss": loss,
                **{name: own[name] for name in self._config.penalties},
                "lr": own["lr"],
                "grad_norm": own["grad_norm"],
                "tokens": packed.num_tokens,
                "targets": packed.num_targets,
                "seconds": round(seconds, 4),
                "memory": memory,
                **self._projected.pop((run, step), {}),
            }
            self._logs[run].write(row)
            run.summary.add(packed, pending.shape, seconds)
            losses.append(loss)
            tokens += packed.num_tokens
        rate = f", {tokens / seconds:.0f} tokens/s" if seconds > 0 else ""
        self._progress.advance(1, f"loss {np.mean(losses):.3f}{rate}" if losses else "")
        if failed:
            self._leave(failed)

    def _leave(self, leaving: dict[Run, Failure | None]) -> None:
        """Take runs that ended or failed out of the batch, with their parameters, and go on with the rest."""
        staying = [i for i, run in enumerate(self._active) if run not in leaving]
        for i, run in enumerate(self._active):
            if run in leaving:
                self._logs.pop(run).close()
                params = pick_run(self._state, i, self._programs.mesh).params
                self._ended.append(EndedRun(run, params, leaving[run]))
        self._active = [self._active[i] for i in staying]
        if self._active:
            slots = slots_for(self._total, len(self._active))
            self._state, self._constants = restack(self._state, self._constants, staying, slots, self._programs.mesh)

    def _save_is_due(self, count: int) -> bool:
        """By steps or by minutes, whichever comes first; the first process's clock counts for all."""
        every = self._config.checkpoint
        due = every.every_steps is not None and count % every.every_steps == 0
        if every.every_minutes is not None and not due:
            late = time.monotonic() - self._saved > 60 * every.every_minutes
            due = bool(multihost_utils.broadcast_one_to_all(np.bool_(late))) if jax.process_count() > 1 else late
        return due

    def _save(self, wait: bool) -> Iterator[EndedRun]:
        """Save every run that is still active; yields those that turn out to have failed."""
        self._flush()
        yield from self._hand_over()
        for i, run in enumerate(self._active):
            run.checkpoints.save(run.step, pick_run(self._state, i, self._programs.mesh))
            if jax.process_count() > 1:
                # Orbax names the barriers of a save by a counter that the next save raises: with two under way,
                # processes wait at different ones, for ever.
                run.checkpoints.wait()
        if wait:
            for run in self._active:
                run.checkpoints.wait()
        self._saved = time.monotonic()
