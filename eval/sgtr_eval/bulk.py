"""Questions whose answer is the likeliest of a few tokens: one call of the engine, and an Inspect log.

Inspect runs a coroutine a sample, with events and a transcript, which costs the host more than the accelerator needs
for one token. The scorer, its metrics and the log are Inspect's here too.
"""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import inspect_ai
from inspect_ai import Task
from inspect_ai._util._async import run_coroutine
from inspect_ai.dataset import Sample
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalPlan,
    EvalPlanStep,
    EvalSample,
    EvalSpec,
)
from inspect_ai.log._condense import condense_sample
from inspect_ai.log._recorders.eval import EvalRecorder
from inspect_ai.model import ChatMessage, ChatMessageUser, Model, ModelOutput

from sgtr_eval.choices import option_logprobs, options_of
from sgtr_jax.json_types import Json

_FLUSHED = 100  # samples of the log that are written together


@runtime_checkable
class ScoresOptions(Protocol):
    """What our provider (`provider.SgtrAPI`) does besides answering Inspect's requests."""

    def score_options(self, asked: Sequence[Sequence[ChatMessage]], options: Sequence[str]) -> list[ModelOutput]:
        """See `SgtrAPI.score_options`."""


def asked_in_bulk(task: Task, model: Model) -> Sequence[str] | None:
    """The options of a task that can be scored in bulk by this model; None for another task or an API's model."""
    plain = task.epochs in (None, 1) and task.setup is None and task.sandbox is None
    return options_of(task.solver) if plain and isinstance(model.api, ScoresOptions) else None


def evaluate_in_bulk(
    task: Task, options: Sequence[str], model: Model, arguments: Mapping[str, Json], folder: Path,
    metadata: Mapping[str, Json],
) -> EvalLog:  # fmt: skip
    """Score every sample of `task` in one call, write the log into `folder`, and return it.

    Raises what the engine raises. The samples are in the order of their ids, as Inspect keeps them.
    """
    assert isinstance(model.api, ScoresOptions)
    started = datetime.datetime.now(datetime.UTC)
    samples = list(task.dataset)
    asked = [_turns(sample) for sample in samples]
    outputs = model.api.score_options(asked, options)
    log = EvalLog(
        status="success",
        eval=EvalSpec(
            created=started.isoformat(timespec="seconds"),
            task=task.name,
            task_args=dict(arguments),
            dataset=EvalDataset(name=task.dataset.name, samples=len(samples)),
            model=str(model),
            config=EvalConfig(epochs=1),
            packages={"inspect_ai": importlib.metadata.version("inspect_ai")},
            metadata=dict(metadata),
        ),
        plan=EvalPlan(steps=[EvalPlanStep(solver="choose", params={"options": list(options), "mode": "logprobs"})]),
        samples=sorted(
            (_answered(*one, options) for one in zip(samples, asked, outputs, strict=True)),
            key=lambda sample: str(sample.id),
        ),
    )
    assert task.scorer is not None  # a task of options has one
    scored = inspect_ai.score(log, task.scorer, metrics=task.metrics, model=model, display="none", copy=False)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{started:%Y-%m-%dT%H-%M-%S}_{task.name.replace('/', '-').replace('_', '-')}_bulk.eval"
    run_coroutine(_write(scored, folder, folder / name))
    return scored


async def _write(log: EvalLog, folder: Path, path: Path) -> None:
    """What `write_eval_log` does, which holds all samples back and looks through them once more for each of them."""
    recorder = EvalRecorder(str(folder))
    await recorder.log_init(log.eval, str(path), clean=True)
    await recorder.log_start(log.eval, log.plan)
    for number, sample in enumerate(log.samples or [], 1):
        await recorder.log_sample(log.eval, condense_sample(sample))
        if number % _FLUSHED == 0:
            await recorder.flush(log.eval)
    await recorder.log_finish(log.eval, log.status, log.stats, log.results, log.reductions, log.error)


def _turns(sample: Sample) -> list[ChatMessage]:
    return [ChatMessageUser(content=sample.input)] if isinstance(sample.input, str) else list(sample.input)


def _answered(sample: Sample, turns: Sequence[ChatMessage], output: ModelOutput, options: Sequence[str]) -> EvalSample:
    return EvalSample(
        id=str(sample.id),
        epoch=1,
        input=sample.input,
        target=sample.target,
        messages=[*turns, output.choices[0].message],
        output=output,
        metadata={**(sample.metadata or {}), "option_logprobs": option_logprobs(output, options)},
    )
