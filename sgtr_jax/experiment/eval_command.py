"""Tasks of `sgtr_eval` on one model, outside any experiment: each measured once, and never taken for another."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sgtr_eval.facts import Facts, facts_of
from sgtr_jax.distributed.collectives import broadcast_object, collective_section, is_first_process
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.asked import api_model_name
from sgtr_jax.experiment.cost import judge_name, judging_cost
from sgtr_jax.experiment.evaluate import evaluate, judge_answers, sample_answers
from sgtr_jax.experiment.evaluation_node import EvaluationNode
from sgtr_jax.experiment.judge_check import check_judge_answers, gives_scores
from sgtr_jax.experiment.model_under_test import ApiModel, LocalModel, ModelUnderTest
from sgtr_jax.experiment.node import Settings, fingerprint_of
from sgtr_jax.experiment.nodes.answers import Answers
from sgtr_jax.experiment.preflight import Problem, api_problems, judge_problems, raise_all, task_problems
from sgtr_jax.experiment.services import JudgeConfig
from sgtr_jax.experiment.spending import LEDGER, Spending
from sgtr_jax.experiment.store import finished_folder
from sgtr_jax.experiment.tasks import all_arguments, asked_fingerprint, built_task, task_arguments
from sgtr_jax.files import check_writable, write_json
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.report.run_file import MetricRow, read_artifact
from sgtr_jax.sample.config import SampleConfig
from sgtr_jax.sample.folders import resolve_folder
from sgtr_jax.sample.model import load_model, read_spec
from sgtr_jax.sealed import RECORD, damage, differences, set_aside
from sgtr_jax.weights.adapter_fingerprint import adapter_fingerprint


@dataclass(frozen=True)
class _Measured:
    """One task on one model: its arguments, and everything that decides the numbers."""

    facts: Facts
    arguments: JsonObject
    settings: Settings  # what decides the numbers

    @property
    def task(self) -> str:
        """The task's name."""
        return self.facts.name

    @property
    def judged(self) -> bool:
        """Whether a judge reads the answers."""
        return self.facts.judged(self.arguments)

    def to_json(self) -> dict[str, Json]:
        """What is stored beside the numbers."""
        kind, version = EvaluationNode.kind, EvaluationNode.version
        fingerprint = fingerprint_of(kind, version, self.settings, {})
        return {"kind": kind, "name": self.task, "fingerprint": fingerprint, "settings": dict(self.settings)}


def evaluate_one(
    name: str,
    adapters: Sequence[Path],
    tasks: Sequence[str],
    settings: Mapping[str, Mapping[str, Json]],
    sampling: SampleConfig,
    judge: JudgeConfig,
    out: Path,
    assume_yes: bool = False,
) -> None:
    """Run `tasks` on a model under a chain; `settings[task]` are a task's arguments.

    Each task gets a folder `out/TASK` with its Inspect log, `metrics.json` and a record of what was measured. A task
    that was measured before, on the same model and in the same way, is not run again; if it was another model or
    another way, InputError says what differs. One budget of the judge holds for all tasks and all restarts;
    `assume_yes` goes on although it will not be enough. Raises InputError before anything is loaded.
    """
    known = tasks_given(tasks, settings)
    if api_model_name(name) is not None:
        given = [*(["--adapter"] if adapters else []), *sorted(sampling.model_fields_set - {"system"})]
        if given:
            raise InputError(f"{', '.join(given)}: {name} is behind an API, where this cannot be set")
    wanted = list(_wanted(name, adapters, known, settings, sampling, judge))
    check_writable(out)
    missing = _missing(wanted, out)
    raise_all(_problems(name, missing, judge))
    spending = Spending(judge, judge_name(judge, name), out / LEDGER)
    if is_first_process():
        judged, asked = [one for one in missing if one.judged], judge_name(judge, name)
        expected = {
            one.task: judging_cost(asked, judge.batch, one.facts, one.facts.workload(one.arguments)) for one in judged
        }
        spending.check(expected, assume_yes)
        check_judge_answers(judge, [(one.facts, one.arguments) for one in judged])
    model, base = _model_under_test(name, adapters, sampling) if missing else (None, None)
    for one in missing:
        assert model is not None and base is not None
        with finished_folder(out / one.task, one.task, one.to_json) as folder:
            write_json(folder / "metrics.json", _measure(one, model, base, judge, spending, folder))
    if is_first_process():
        _print(tasks, out)


def _problems(name: str, missing: Sequence[_Measured], judge: JudgeConfig) -> list[Problem]:
    """What is not there of all that measuring needs."""
    found = task_problems([(one.facts, one.arguments) for one in missing])
    if missing and api_model_name(name) is not None:
        found += api_problems("model", name)
    return found + (judge_problems(judge) if any(one.judged for one in missing) else [])


def tasks_given(tasks: Sequence[str], settings: Mapping[str, Mapping[str, Json]]) -> list[Facts]:
    """What is known of `tasks`.

    Raises InputError for a task that is not known, or given twice, and for settings of one that is not run.
    """
    known = {task: facts_of(task) for task in (*tasks, *settings)}
    if len(set(tasks)) < len(tasks):
        raise InputError(f"tasks {', '.join(tasks)}: one is given twice")
    unused = [task for task in settings if task not in tasks]
    if unused:
        raise InputError(f"settings of {', '.join(unused)} are given, and the tasks are {', '.join(tasks)}")
    return [known[task] for task in tasks]


def _wanted(
    name: str, adapters: Sequence[Path], tasks: Sequence[Facts], settings: Mapping[str, Mapping[str, Json]],
    sampling: SampleConfig, judge: JudgeConfig,
) -> Iterator[_Measured]:  # fmt: skip
    chain = [adapter_fingerprint(folder) for folder in adapters]
    if api_model_name(name) is not None:
        asked: JsonObject = {"model": name, "server": os.environ.get("OPENAI_BASE_URL"), "system": sampling.system}
    else:
        folder = resolve_folder(name)
        read_spec(folder)  # refuses what is no model before anything is written
        asked = {"model": model_fingerprint(folder)[:16], **sampling.identity()}
    arguments = {facts.name: _arguments(facts, settings.get(facts.name, {}), judge) for facts in tasks}
    for facts in tasks:
        given = arguments[facts.name]
        # What it costs and how fast it comes do not change what a judge says.
        judging = {"judge": judge.model_dump(mode="json", include={"model", "base_url"})} if facts.judged(given) else {}
        decides = {
            **asked,
            "adapters": chain,
            "task": facts.name,
            "arguments": all_arguments(facts, given),
            "questions": asked_fingerprint(built_task(facts, given))[:16],
            **judging,
            "versions": {node.kind: node.version for node in (Answers, EvaluationNode)},
        }
        yield _Measured(facts, given, decides)


def _arguments(facts: Facts, given: Mapping[str, Json], judge: JudgeConfig) -> JsonObject:
    mode = {"judge_mode": judge.mode} if judge.mode and gives_scores(facts) else {}
    return task_arguments(facts, {**mode, **given}, 0, f"task {facts.name}")


def _missing(wanted: Sequence[_Measured], out: Path) -> list[_Measured]:
    """Those to be measured. The first process of a job looks, and sets aside what is damaged."""
    missing = None
    with collective_section("looking at what is done"):
        if is_first_process():
            missing = [one.task for one in wanted if not _is_done(one, out / one.task)]
    named = set(broadcast_object(missing))
    return [one for one in wanted if one.task in named]


def _is_done(one: _Measured, folder: Path) -> bool:
    """Whether the folder holds this measurement. Raises InputError if it holds another one, or was not made here."""
    if not folder.exists():
        return False
    if not (folder / RECORD).exists():
        raise InputError(
            f"{folder}: has no {RECORD}, so that it cannot be known what was measured there (an older version wrote "
            "none). Give another --out, or remove the folder"
        )
    if found := damage(folder, whole=True):
        aside = set_aside(folder)
        print(f"{folder}: damaged: {'; '.join(found)}. Set aside as {aside.name}, and measured again", file=sys.stderr)
        return False
    record = read_artifact(folder)
    differing = differences(record.get("settings"), dict(one.settings))
    if differing:
        raise InputError(
            f"{folder}: holds the numbers of something else: {'; '.join(differing)}. Give another --out, or remove the "
            "folder"
        )
    print(f"{folder}: done before, {record['provenance']['made']}", file=sys.stderr)
    return True


def _measure(
    one: _Measured, model: ModelUnderTest, base: ModelUnderTest, judge: JudgeConfig, spending: Spending, folder: Path
) -> list[MetricRow]:
    if not one.judged:
        return evaluate(one.facts, one.arguments, model, folder, one.task)
    sample_answers(one.facts, one.arguments, model, folder / "answers", one.task)
    asked = base if judge.is_open else ApiModel(judge.model, base_url=judge.base_url, batch=judge.batch)
    answers = folder / "answers" / "log"
    return judge_answers(one.facts, one.arguments, {}, spending, asked, answers, folder, one.task, one.task)


def _model_under_test(
    name: str, adapters: Sequence[Path], sampling: SampleConfig
) -> tuple[ModelUnderTest, ModelUnderTest]:
    """The model under test, and the base model below it."""
    if api_model_name(name) is not None:
        api = ApiModel(name, "none" if sampling.system == "default" else sampling.system)
        return api, api
    base = load_model(name, sampling.dtype)
    steered = base.with_adapters(adapters, sampling.merge is not None).steered(sampling.steer)
    return LocalModel(steered, sampling), LocalModel(base, sampling)


def _print(tasks: Sequence[str], out: Path) -> None:
    table = Table()
    for column in ("task", "metric", "value", "n"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for task in tasks:
        for row in json.loads((out / task / "metrics.json").read_text()):
            table.add_row(task, row["metric"], f"{row['value']:.4g}", str(row["n"]))
    Console(width=None if Console().is_terminal else 120).print(table)
