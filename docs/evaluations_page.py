"""The page of evaluations: what each task does, its arguments, and the metrics it reports."""

from __future__ import annotations

import inspect

from sgtr_eval.described import arguments_of, differs, metrics_of, tasks
from sgtr_eval.facts import all_facts

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
    lines = [INTRODUCTION]
    for name, made in tasks().items():
        lines += [f"## {name}", "", inspect.cleandoc(made.__doc__ or ""), ""]
        if (text := differs(name)) is not None:
            lines += [f"Beside others of its name: {text}", ""]
        lines += _arguments(name) + _metrics(name)
    return "\n".join(lines) + "\n"


def _arguments(name: str) -> list[str]:
    lines = ["| argument | default | description |", "|---|---|---|"]
    for key, default, description in arguments_of(name):
        shown = default if default == "required" else f"`{default}`"
        lines.append(f"| `{key}` | {shown} | {description} |")
    return [*lines, ""]


def _metrics(name: str) -> list[str]:
    described = metrics_of(name)
    if not described:
        return ["It reports no metric: its answers are what it is for.", ""]
    primary = all_facts()[name].metric
    lines = ["| metric | description |", "|---|---|"]
    for key, text in described.items():
        shown = f"**`{key}`**" if primary == key else f"`{key}`"
        lines.append(f"| {shown} | {text} |")
    return [*lines, ""]
