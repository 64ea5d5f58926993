"""Tasks of `sgtr_eval` on one model, outside any experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sgtr_eval.facts import facts_of
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import JudgeConfig, api_model_name
from sgtr_jax.experiment.evaluate import evaluate, judge_answers, sample_answers
from sgtr_jax.experiment.graph import task_arguments
from sgtr_jax.experiment.subjects import Api, Local, Subject
from sgtr_jax.files import check_writable, new_folder, write_json
from sgtr_jax.model import load_model
from sgtr_jax.processes import is_first_process
from sgtr_jax.sample.config import SampleConfig


def evaluate_one(
    name: str,
    adapters: Sequence[Path],
    tasks: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    sampling: SampleConfig,
    judge: JudgeConfig,
    out: Path,
) -> None:
    """Run `tasks` on a model under a chain; `settings[task]` are a task's arguments.

    Each task gets a folder `out/TASK` with its Inspect log and `metrics.json`; a task whose folder is complete is not
    run again. Raises InputError before anything is loaded.
    """
    for task in (*tasks, *settings):
        facts_of(task)
    arguments = {task: task_arguments(task, dict(settings.get(task, {})), 0, f"task {task}") for task in tasks}
    check_writable(out)
    missing = [task for task in tasks if not (out / task / "metrics.json").exists()]
    subject, base = _subject(name, adapters, sampling) if missing else (None, None)
    for task in missing:
        assert subject is not None and base is not None
        with new_folder(out / task) as folder:
            if facts_of(task).judged(arguments[task]):
                sample_answers(task, arguments[task], subject, folder / "answers", task)
                asked = base if judge.is_open else Api(judge.model, base_url=judge.base_url, batch=judge.batch)
                answers = folder / "answers" / "log"
                rows = judge_answers(task, arguments[task], {}, judge.max_cost, asked, answers, folder, task)
            else:
                rows = evaluate(task, arguments[task], subject, folder, task)
            write_json(folder / "metrics.json", rows)
    if is_first_process():
        _print(tasks, out)


def _subject(name: str, adapters: Sequence[Path], sampling: SampleConfig) -> tuple[Subject, Subject]:
    """The model under test, and the untouched one below it."""
    if api_model_name(name) is not None:
        if adapters:
            raise InputError(f"--adapter: {name} is behind an API")
        api = Api(name, "none" if sampling.system == "default" else sampling.system)
        return api, api
    base = load_model(name, sampling.dtype)
    return Local(base.with_adapters(adapters, sampling.merge is not None), sampling), Local(base, sampling)


def _print(tasks: Sequence[str], out: Path) -> None:
    table = Table()
    for column in ("task", "metric", "value", "n"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for task in tasks:
        for row in json.loads((out / task / "metrics.json").read_text()):
            table.add_row(task, row["metric"], f"{row['value']:.4g}", str(row["n"]))
    Console(width=None if Console().is_terminal else 120).print(table)
