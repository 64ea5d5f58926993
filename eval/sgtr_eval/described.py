"""What the arguments and the metrics of each evaluation mean, as `evaluations.yaml` says it."""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from sgtr_eval.facts import MakesTask, all_facts
from sgtr_eval.summaries import summarise
from sgtr_jax.yaml_text import read_yaml

FILE = Path(__file__).with_name("evaluations.yaml")


class _DescribedTask(TypedDict):
    differs: NotRequired[str]
    arguments: NotRequired[dict[str, str]]
    metrics: NotRequired[dict[str, str | None]]


class _Described(TypedDict):
    """`evaluations.yaml`: what arguments and metrics of several tasks mean, then those of each."""

    arguments: dict[str, str]
    metrics: dict[str, str]
    tasks: dict[str, _DescribedTask]


def tasks() -> dict[str, MakesTask]:
    """The tasks of `sgtr_eval` by name: the evaluations, and the one that only writes summaries."""
    made = {name: facts.task for name, facts in all_facts().items()}
    found: dict[str, MakesTask] = dict(sorted({**made, "summarise": summarise}.items()))
    if unknown := sorted(set(_said()["tasks"]) ^ set(found)):
        raise ValueError(f"{FILE.name} and sgtr_eval do not name the same tasks: {unknown}")
    return found


def arguments_of(name: str) -> list[tuple[str, str, str]]:
    """Name, default and meaning of a task's arguments. Raises ValueError where the file does not say it."""
    own = _said()["tasks"][name].get("arguments", {})
    described = {**_said()["arguments"], **own}
    parameters = inspect.signature(tasks()[name]).parameters
    lacking = sorted(set(parameters) - set(described))
    stale = sorted(set(own) - set(parameters))
    if lacking or stale:
        raise ValueError(f"{FILE.name}: {name}: without a description {lacking}, no such argument {stale}")
    return [(key, _default(one), described[key]) for key, one in parameters.items()]


def metrics_of(name: str) -> dict[str, str]:
    """Descriptions of the metrics that a task reports, by the names that logs and `results.csv` give them."""
    said = _said()
    return {key: text or said["metrics"][key] for key, text in said["tasks"][name].get("metrics", {}).items()}


def differs(name: str) -> str | None:
    """How a task's numbers differ from those of other programs' tasks of its name; None where there is none known."""
    found = _said()["tasks"].get(name)
    return None if found is None else found.get("differs")


@cache
def _said() -> _Described:
    return cast(_Described, read_yaml(FILE))


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
