"""Finetuning on this machine's devices: many jobs in, a PEFT adapter for each out, trained together over one base."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from sgtr_jax.data.tokenizer import load_tokenizer
from sgtr_jax.distributed.collectives import assert_equal_across_processes
from sgtr_jax.distributed.mesh import TRAINING
from sgtr_jax.errors import RunError
from sgtr_jax.finetune.auto_mesh import resolve_mesh
from sgtr_jax.finetune.jobs import Finetune, FinetuneResult, Prepared, prepare
from sgtr_jax.finetune.multi_run import MultiRunTrainer
from sgtr_jax.sample.folders import resolve_folder
from sgtr_jax.sample.model import Model, check_weights, load_model, read_spec

# Settings that runs of one batch may differ in: all others are part of the program, or of the base.
_PER_RUN = (
    "seed",
    "epochs",
    "max_steps",
    "measure_at",
    "shuffle",
    "lr",
    "inoculation",
    "system",
    "thinking_budget",
    "overlong",
)
# Runs whose steps differ more than this in tokens are not batched: the smaller ones would mostly be padding.
_LIKE_SIZES = 1.5


def finetune(job: Finetune, base: Model | None = None) -> FinetuneResult:
    """Run one job; see `finetune_all`. Raises RunError if it fails."""
    (result,) = finetune_all([job], base)
    if result.failure is not None:
        raise RunError(result.failure)
    return result


def finetune_all(jobs: Sequence[Finetune], base: Model | None = None) -> Iterator[FinetuneResult]:
    """Run jobs on one base model, as many at once as its memory allows; each writes its results under its `out`.

    Yields each as soon as it has ended, in every process of a job. `base` is reused if given (the base model, in the
    training layout). Raises InputError for bad input in any job before any weight is read. A job whose loss stops being
    finite leaves its last good state under `out/last_good`, and its result says so; the others go on.
    """
    (name,) = {job.model for job in jobs}
    folder = resolve_folder(name)
    spec = read_spec(folder)
    if base is None:
        check_weights(folder, spec)
    tokenizer = base.tokenizer if base is not None else load_tokenizer(folder)
    prepared = [prepare(job, folder, spec, tokenizer) for job in jobs]
    identities = [[one.identity, one.config.model_dump(mode="json"), one.resume_from] for one in prepared]
    assert_equal_across_processes("the model, the data, the settings or what is saved", json.dumps(identities))
    for members in _groups(prepared):
        group, considered = resolve_mesh(members, spec)
        yield from MultiRunTrainer(group, _base_for(group[0], base), folder, considered).train()


def _groups(prepared: Sequence[Prepared]) -> list[list[Prepared]]:
    """Jobs that one program can train together: equal settings but for `_PER_RUN`, and steps of like size."""
    groups: list[tuple[object, float, list[Prepared]]] = []
    for one in prepared:
        settings = one.config.model_copy(update=dict.fromkeys(_PER_RUN))
        # A merged base is one chain's own. Rows that only a penalty reads are a part of the program.
        key = (settings, one.job.chain if one.config.merge else None, tuple(one.others))
        examples = one.plan.all_examples()
        size = sum(len(example.tokens) for example in examples) / len(examples)
        for other, begun, members in groups:
            if other == key and max(size, begun) <= _LIKE_SIZES * min(size, begun):
                members.append(one)
                break
        else:
            groups.append((key, size, [one]))
    return [members for _, _, members in groups]


def _base_for(one: Prepared, base: Model | None) -> Model:
    """The base of a group, in the layout of training."""
    config, int8 = one.config, one.config.base_dtype == "int8"
    if base is not None and not int8:
        return base
    assert config.mesh != "auto"  # settled
    return load_model(one.job.model, config.dtype, config.mesh, TRAINING, int8)
