"""The page of evaluations: what each task does, its arguments, and the metrics it reports."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgtr_eval.facts import all_facts
from sgtr_eval.summaries import summarise
from sgtr_jax.yaml_text import read_yaml

INTRODUCTION = """\
# Evaluations

Every evaluation is an Inspect AI task. There are three ways to run one:

- under `evaluations:` of an experiment, with the task as `kind:`;
- `sgtr eval NAME --model M NAME.key=value`, on one model;
- `inspect eval sgtr_eval/NAME --model sgtr/FOLDER -T key=value`, with Inspect itself.

The metric in bold is the primary one: the report draws it, compares it with the base model and corrects its p-values.
"""


def evaluations_page() -> str:
    """The page in Markdown. Raises ValueError where the tasks and `evaluations.yaml` do not agree."""
    said = descriptions()
    found = tasks()
    unknown = sorted(set(said["tasks"]) ^ set(found))
    if unknown:
        raise ValueError(f"docs/evaluations.yaml and sgtr_eval do not name the same tasks: {unknown}")
    lines = [INTRODUCTION]
    for name, made in found.items():
        lines += [f"## {name}", "", inspect.cleandoc(made.__doc__ or ""), ""]
        lines += _arguments(name, made, said) + _metrics(name, said)
    return "\n".join(lines) + "\n"


def tasks() -> dict[str, Any]:
    """The tasks of `sgtr_eval` by name: the evaluations, and the one that only writes summaries."""
    made = {name: facts.task for name, facts in all_facts().items()}
    return dict(sorted({**made, "summarise": summarise}.items()))


def descriptions() -> dict[str, Any]:
    """What `evaluations.yaml` says."""
    return read_yaml(Path(__file__).parent / "evaluations.yaml")


def arguments_of(name: str, said: Mapping[str, Any]) -> dict[str, str]:
    """Descriptions of a task's arguments: its own, then those that all tasks share."""
    return {**said["arguments"], **said["tasks"][name].get("arguments", {})}


def metrics_of(name: str, said: Mapping[str, Any]) -> dict[str, str]:
    """Descriptions of the metrics that a task reports, by the names that logs and `results.csv` give them."""
    return {key: text or said["metrics"][key] for key, text in said["tasks"][name].get("metrics", {}).items()}


def _arguments(name: str, made: Any, said: Mapping[str, Any]) -> list[str]:
    lines = ["| argument | default | description |", "|---|---|---|"]
    described = arguments_of(name, said)
    parameters = inspect.signature(made).parameters
    lacking = sorted(set(parameters) - set(described))
    stale = sorted(set(said["tasks"][name].get("arguments", {})) - set(parameters))
    if lacking or stale:
        raise ValueError(f"docs/evaluations.yaml: {name}: without a description {lacking}, no such argument {stale}")
    for key, parameter in parameters.items():
        default = "required" if parameter.default is inspect.Parameter.empty else f"`{_yaml(parameter.default)}`"
        lines.append(f"| `{key}` | {default} | {described[key]} |")
    return [*lines, ""]


def _yaml(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _metrics(name: str, said: Mapping[str, Any]) -> list[str]:
    described = metrics_of(name, said)
    if not described:
        return ["It reports no metric: its answers are what it is for.", ""]
    primary = all_facts()[name].metric
    lines = ["| metric | description |", "|---|---|"]
    for key, text in described.items():
        shown = f"**`{key}`**" if primary == key else f"`{key}`"
        lines.append(f"| {shown} | {text} |")
    return [*lines, ""]
