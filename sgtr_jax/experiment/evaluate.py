"""Running Inspect tasks on our models, in one go or in two phases: answers now, judged whenever."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import inspect_ai
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log, write_eval_log
from inspect_ai.scorer import Value

from sgtr_eval.bulk import asked_in_bulk, evaluate_in_bulk
from sgtr_eval.facts import Facts
from sgtr_eval.judging.limited import limited
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.model_under_test import ModelUnderTest
from sgtr_jax.experiment.spending import Spending
from sgtr_jax.experiment.tasks import parameters_of
from sgtr_jax.files import write_jsonl
from sgtr_jax.json_types import Json
from sgtr_jax.report.run_file import MetricRow, SampleRow

# Inspect looks for a newer release of itself at every start unless told not to.
os.environ.setdefault("INSPECT_DISABLE_UPDATE_CHECK", "1")

Rows = list[MetricRow]


def evaluate(facts: Facts, arguments: Mapping[str, Json], model: ModelUnderTest, folder: Path, label: str) -> Rows:
    """Run an evaluation's task; its Inspect log goes to `folder/log`. Returns `{metric, value, n}` rows.

    Of several processes the first runs Inspect and the others follow its engine, with no rows in the end.
    Raises RunError when Inspect reports anything but success, and InputError when that is since the chat template
    cannot form a prompt.
    """
    log = _run(facts, arguments, model, folder, label, score=True)
    if log is None:
        return []
    write_jsonl(folder / "samples.jsonl", samples_of(log))
    return rows_of(log, label)


def sample_answers(
    facts: Facts, arguments: Mapping[str, Json], model: ModelUnderTest, folder: Path, label: str
) -> None:
    """The answers of a judged task as an Inspect log without scores."""
    _run(facts, arguments, model, folder, label, score=False)


def judge_answers(
    facts: Facts,
    arguments: Mapping[str, Json],
    judging: Mapping[str, Json],
    spending: Spending,
    judge: ModelUnderTest,
    answers: Path,
    folder: Path,
    label: str,
    artifact: str,
) -> Rows:
    """Judge a log of answers; the judged log goes to `folder/log`. `judging` are arguments of the task's scorer.

    What it costs is written down as `artifact`'s. Raises RunError when the budget ended before the answers did: what
    was judged is in Inspect's cache.
    """
    with judge.inspect_model() as grader:
        if grader is None:
            return []
        given = {**arguments, **judging}
        limits = [most for most in (spending.left, given.get("max_cost")) if isinstance(most, int | float)]
        if limits and "max_cost" in parameters_of(facts.task):
            given["max_cost"] = min(limits)
        elif limits:
            grader = limited(grader, min(limits))
        made = facts.task(**given)
        (stored,) = list_eval_logs(str(answers))
        # Without `model` Inspect would load the one that answered once more, only to score what it said.
        with spending.recorded(artifact):
            log = inspect_ai.score(
                read_eval_log(stored), made.scorer, metrics=made.metrics, model=grader, model_roles={"grader": grader},
                display="none",
            )  # fmt: skip
    (folder / "log").mkdir()
    write_eval_log(log, str(folder / "log" / Path(stored.name).name))
    write_jsonl(folder / "samples.jsonl", samples_of(log))
    rows = rows_of(log, label)
    if any(row["metric"] == "no_score_budget" for row in rows) or _over_budget(log):
        raise RunError(spending.over(label))
    return rows


def rows_of(log: EvalLog, label: str) -> Rows:
    """`{metric, value, n}` of every metric. Raises RunError when the evaluation did not succeed."""
    if log.status != "success" or log.results is None:
        raise RunError(f"{label}: the evaluation failed: {log.error.message if log.error else log.status}")
    return [
        {"metric": name, "value": metric.value, "n": log.results.completed_samples}
        for score in log.results.scores
        for name, metric in score.metrics.items()
    ]


def samples_of(log: EvalLog) -> list[SampleRow]:
    """A row an answer, `{id, question, answer, value, scores}`: what the report shows and compares by question.

    `value` is what the answer counts for in the metric that the evaluation is read by, which is the mean of the values;
    None where the answer is in no denominator. `scores` holds what else the scorer said in few words.
    """
    rows: list[SampleRow] = []
    for sample in log.samples or []:
        scores = list((sample.scores or {}).values())
        score = scores[0] if scores else None
        turns = sample.input if isinstance(sample.input, list) else []
        question = "\n\n".join(turn.text for turn in turns) if turns else str(sample.input)
        meta = (score.metadata or {}) if score is not None else {}
        short: dict[str, Json] = {
            key: value
            for key, value in meta.items()
            if key not in ("question_id", "cost", "judged")
            and (isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 40))
        }
        rows.append(
            {
                "id": str(sample.id),
                "question": question,
                "answer": sample.output.completion if score is None or score.answer is None else score.answer,
                "value": _number(score.value) if score is not None else None,
                "scores": short,
            }
        )
    return rows


def _number(value: Value) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    return {"C": 1.0, "I": 0.0}.get(str(value))


def _run(
    facts: Facts, arguments: Mapping[str, Json], model: ModelUnderTest, folder: Path, label: str, score: bool
) -> EvalLog | None:
    with model.inspect_model() as served:
        if served is None:
            return None
        made = facts.task(**arguments)
        model.put_system(made)
        metadata: dict[str, Json] = {"chain": model.chain_id, "label": label}
        options = asked_in_bulk(made, served) if score else None
        if options is not None:
            try:
                return evaluate_in_bulk(made, options, served, arguments, folder / "log", metadata)
            except InputError as error:
                raise InputError(f"{label}: {error}") from error
        (log,) = inspect_ai.eval(
            made,
            model=served,
            score=score,
            log_dir=str(folder / "log"),
            display="none",
            log_level="error",
            log_realtime=False,
            metadata=metadata,
        )
        refused = getattr(served.api, "refused", None)
    if log.status != "success" and isinstance(refused, InputError):
        raise InputError(f"{label}: {refused}") from refused
    if log.status != "success":
        raise RunError(f"{label}: the evaluation failed: {log.error.message if log.error else log.status}")
    return log


def _over_budget(log: EvalLog) -> bool:
    scores = [score for sample in log.samples or [] for score in (sample.scores or {}).values()]
    return any((score.metadata or {}).get("no_score") == "budget" for score in scores)
