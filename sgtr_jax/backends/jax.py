"""Finetuning on this machine's devices: many jobs in, a PEFT adapter for each out, trained together over one base."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sgtr_jax.backends.auto_mesh import settle_mesh
from sgtr_jax.backends.jobs import Finetune, Prepared, prepare
from sgtr_jax.backends.together import Together
from sgtr_jax.data.batches import TokenizeReport
from sgtr_jax.errors import RunError
from sgtr_jax.mesh import TRAINING
from sgtr_jax.model import Model, check_weights, load_model, read_spec, resolve_folder
from sgtr_jax.processes import check_same
from sgtr_jax.tokenizer import load_tokenizer

# Settings that runs of one batch may differ in: all others are part of the program, or of the base.
_PER_RUN = ("seed", "epochs", "max_steps", "shuffle", "lr", "inoculation", "system", "thinking_budget", "overlong")
# Runs whose steps differ more than this in tokens are not batched: the smaller ones would mostly be padding.
_LIKE_SIZES = 1.5


def finetune(job: Finetune, base: Model | None = None) -> TokenizeReport:
    """Run one job; see `finetune_all`."""
    return finetune_all([job], base)[0]


def finetune_all(jobs: Sequence[Finetune], base: Model | None = None) -> list[TokenizeReport]:
    """Run jobs on one base model, as many at once as its memory allows; each writes its results under its `out`.

    `base` is reused if given (the untouched model, in the training layout). Raises InputError for bad input in any
    job before any weight is read. A job whose loss stops being finite leaves its last good state under
    `out/last_good`; the others go on, and RunError names the failed ones at the end.
    """
    (name,) = {job.model for job in jobs}
    folder = resolve_folder(name)
    spec = read_spec(folder)
    if base is None:
        check_weights(folder, spec)
    tokenizer = base.tokenizer if base is not None else load_tokenizer(folder)
    prepared = [prepare(job, folder, spec, tokenizer) for job in jobs]
    told = [[one.identity, one.config.model_dump(mode="json"), one.resume_from] for one in prepared]
    check_same("the model, the data, the settings or what is saved", json.dumps(told))
    failures: list[str] = []
    for members in _groups(prepared):
        group, considered = settle_mesh(members, spec)
        failures += Together(group, _base_for(group[0], base), folder, considered).train()
    if failures:
        raise RunError("\n".join(failures))
    return [one.tokenized for one in prepared]


def _groups(prepared: Sequence[Prepared]) -> list[list[Prepared]]:
    """Jobs that one program can train together: equal settings but for `_PER_RUN`, and steps of like size."""
    groups: list[tuple[Any, float, list[Prepared]]] = []
    for one in prepared:
        settings = one.config.model_copy(update=dict.fromkeys(_PER_RUN))
        # A merged base is one chain's own.
        key = (settings, one.job.chain if one.config.merge else None)
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
