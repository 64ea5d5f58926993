"""Tasks of `sgtr_eval` from outside: which there are, what arguments they take, and what they ask."""

from __future__ import annotations

import hashlib
import inspect
import json
import typing
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, create_model

from sgtr_eval.facts import Facts, MakesTask
from sgtr_jax.config import Config, Count, PositiveInt, Seed, build_config, names_file
from sgtr_jax.errors import InputError, RunError, nearest
from sgtr_jax.fingerprint import file_fingerprint
from sgtr_jax.json_types import Json, JsonObject

if TYPE_CHECKING:
    import inspect_ai

_Score = Annotated[float, Field(ge=0, le=100)]  # of a judge
# What an argument of this name may be, in whatever task; the tasks' own types are those of Python.
_BOUNDS: dict[str, Any] = {
    "samples": Count, "max_tokens": PositiveInt, "limit": PositiveInt, "limit_per_subject": PositiveInt,
    "seed": Seed, "shots": Annotated[int, Field(ge=0)], "temperature": Annotated[float, Field(ge=0)],
    "max_cost": Annotated[float, Field(gt=0)],
    "min_mass": Annotated[float, Field(gt=0, le=1)],  # a probability: above 1 no answer would have a score
    "aligned_below": _Score, "coherent_above": _Score,
}  # fmt: skip
_WITHOUT_EFFECT = ("max_cost",)  # on any answer or score


def task_arguments(
    facts: Facts, given: Mapping[str, Json], seed: int, where: str, stimuli: str | None = None
) -> JsonObject:
    """A task's arguments, the run's seed among them where it takes one.

    Raises InputError for one that it does not take, that is of another type, or that is missing.
    """
    function, task = facts.task, facts.name
    taken = parameters_of(function)
    if stimuli is not None and "stimuli" in taken:
        given = {"stimuli": stimuli, **given}
    for key in given:
        if key not in taken:
            said = nearest(key, taken) if taken else "it has no settings at all"
            raise InputError(f"{where}: {task} has no setting {key!r}: {said}")
    try:
        text = json.dumps(given)
    except (TypeError, ValueError):  # without a JSON form, which is said as for any other config
        build_config(_model_of(task, function), given, where)
    else:
        _check_types(task, function, text, where)
    return {**({"seed": seed} if "seed" in taken else {}), **given}


def all_arguments(facts: Facts, given: Mapping[str, Json]) -> JsonObject:
    """`given` and the defaults of the rest, but for those that change no answer and no score; digests for files."""
    values = {name: given.get(name, one.default) for name, one in parameters_of(facts.task).items()}
    return with_digests({name: value for name, value in values.items() if name not in _WITHOUT_EFFECT})


def with_digests(arguments: Mapping[str, Json]) -> JsonObject:
    """Arguments by what they mean: a file is what it holds, wherever it lies."""
    return {name: _content(value) for name, value in arguments.items()}


def _content(value: Json) -> Json:
    if isinstance(value, str) and names_file(value) and Path(value).is_file():
        return file_fingerprint(Path(value))
    return value


def built_task(facts: Facts, arguments: Mapping[str, Json]) -> inspect_ai.Task:
    """The task, with all that it will ask. Raises InputError or RunError, as fetching does, and if it asks nothing."""
    try:
        made = facts.task(**arguments)
    except (InputError, RunError) as error:
        raise type(error)(f"task {facts.name}: {error}") from None
    if len(made.dataset) == 0:
        raise InputError(f"task {facts.name}: with these settings it asks nothing")
    kind = getattr(made.sandbox, "type", None)
    if kind not in (None, "local"):
        raise InputError(
            f"task {facts.name}: needs a sandbox ({kind}), which is not started here; use one without tools in it"
        )
    return made


def asked_fingerprint(task: inspect_ai.Task) -> str:
    """Digest of everything that a task asks, whatever files and sets that was read from, and of how it draws."""
    digest = hashlib.sha256(json.dumps(task.config.model_dump(exclude_none=True), sort_keys=True).encode())
    for sample in task.dataset:
        turns = sample.input if isinstance(sample.input, str) else [(turn.role, turn.text) for turn in sample.input]
        row = [sample.id, turns, sample.choices, sample.target, sample.metadata]
        digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


# Of a task there is one for each condition, seed and evaluation, and what they take is the same.
@cache
def parameters_of(function: MakesTask) -> Mapping[str, inspect.Parameter]:
    """What a task takes, by name."""
    return inspect.signature(function).parameters


@lru_cache(maxsize=1024)
def _check_types(task: str, function: MakesTask, given: str, where: str) -> None:
    build_config(_model_of(task, function), json.loads(given), where)


@cache
def _model_of(task: str, function: MakesTask) -> type[Config]:
    """The task's arguments as a config, whose messages are those of any other."""
    hints = typing.get_type_hints(inspect.unwrap(function))
    fields: dict[str, Any] = {}  # annotations with defaults, as pydantic takes them
    for name, one in parameters_of(function).items():
        hint = hints[name]
        if name in _BOUNDS:
            hint = _BOUNDS[name] | None if type(None) in typing.get_args(hint) else _BOUNDS[name]
        fields[name] = (hint, ... if one.default is inspect.Parameter.empty else one.default)
    model: type[Config] = create_model(task, __base__=Config, **fields)
    return model
