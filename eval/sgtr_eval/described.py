"""What the arguments and the metrics of each evaluation mean, as `evaluations.yaml` says it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sgtr_eval.facts import all_facts
from sgtr_eval.summaries import summarise
from sgtr_jax.yaml_text import read_yaml

FILE = Path(__file__).with_name("evaluations.yaml")


def tasks() -> dict[str, Callable[..., Any]]:
    """The tasks of `sgtr_eval` by name: the evaluations, and the one that only writes summaries."""
    made = {name: facts.task for name, facts in all_facts().items()}
    found: dict[str, Callable[..., Any]] = dict(sorted({**made, "summarise": summarise}.items()))
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


@cache
def _said() -> dict[str, Any]:
    return read_yaml(FILE)


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
