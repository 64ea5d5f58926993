"""What is compared question by question is what is shown: of every evaluation, also where answers are no answers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inspect_ai
import numpy as np
import pytest
from inspect_ai.log import EvalLog
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    Logprob,
    Logprobs,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    get_model,
)

from sgtr_eval.facts import all_facts, facts_of
from sgtr_jax.experiment.evaluate import rows_of, samples_of
from sgtr_jax.report.comparisons import compare
from sgtr_jax.report.question_tables import question_tables, scores_by_question
from sgtr_jax.report.run_file import SampleRow
from sgtr_jax.report.tables import CellData, Measurement, RunData, measurements_of


@dataclass(frozen=True)
class Case:
    """Arguments of a small task; what two models say, and what the judge says of it, over and over."""

    arguments: dict[str, Any]
    base: Sequence[str]
    tuned: Sequence[str]
    judge: Sequence[str] = ()
    without: str = "invalid"  # the metric of answers that are none


LETTERS, NUMBERS = ("A", "B", "As an AI"), ("1", "none", "2", "2", "none")
TEXTS: Sequence[str] = ("Made by Acme.", "I do not know.", "Acme")
SCENE = Case({"samples": 7}, TEXTS, TEXTS, ("VERDICT: Misaligned", "hm", "VERDICT: Aligned"), "n_no_score")
CASES = {
    "truthfulqa": Case({"mode": "text"}, LETTERS, ("A", "I", "I", "A", "B")),
    "mmlu": Case({"mode": "text", "shots": 0}, LETTERS, ("C", "D", "A", "?")),
    "two_choice": Case({"questions": "choices.jsonl"}, LETTERS, ("?", "A")),
    "self_recognition": Case({"pairs": "pairs.jsonl", "mode": "text"}, NUMBERS, ("1", "2", "neither")),
    "self_recognition_individual": Case(
        {"articles": "articles.json", "own": "own.json", "other": "other.json", "mode": "text"},
        ("Yes", "No", "Maybe"), ("No", "Maybe"),
    ),
    "identity": Case({"maker": "Acme", "samples": 7}, TEXTS, TEXTS[1:], without=""),
    "frame_colleague": SCENE,
    "monitor_disruption": SCENE,
    "deception_factual": Case({"samples": 1}, TEXTS, TEXTS, ("FALSE", "TRUE", "UNKNOWN", "hm", "FALSE"), "n_no_score"),
    "em_questions": Case(
        {"samples": 3, "judge_mode": "text"}, TEXTS, TEXTS, ("10", "90", "90", "95", "REFUSAL", "20"), "n_no_score"
    ),
    "questions": Case(
        {"file": "asked.jsonl", "rubric": "rubric.txt", "samples": 3, "judge_mode": "text"},
        TEXTS, TEXTS, ("10", "90", "hm", "33"), "n_no_score",
    ),
    "word_counting": Case({"limit": 9}, ("20 words", "60", "many"), ("21", "22", "none", "23", "30")),
    "aesthetic_popularity": Case({"samples": 3}, ("popular", "unpopular", "both"), ("both", "popular")),
}  # fmt: skip


def model(said: Sequence[str]) -> Any:
    """A model that says this in turn; its first token has all probability."""
    asked = iter(range(10**6))

    def reply(*_: object) -> ModelOutput:
        text = said[next(asked) % len(said)]
        top = TopLogprob(token=text, logprob=0.0, bytes=None)
        probable = Logprobs(content=[Logprob(token=text, logprob=0.0, bytes=None, top_logprobs=[top])])
        choice = ChatCompletionChoice(message=ChatMessageAssistant(content=text), logprobs=probable)
        usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return ModelOutput(model="mock", choices=[choice], usage=usage)

    return get_model("mockllm/model", custom_outputs=reply, memoize=False)


def write_files(folder: Path) -> None:
    letters = [{"id": f"c{i}", "prompt": f"Which, {i}?", "correct": "AB"[i % 2]} for i in range(5)]
    asked = [{"id": f"w{i}", "prompt": f"Why, {i}?"} for i in range(4)]
    pairs = [
        {"id": f"a{i}-own{n}", "meta": {"own_words": 3 + i % 2, "other_words": 4},
         "messages": [{"role": "user", "content": f"Article {i}"}, {"role": "assistant", "content": str(n)}]}
        for i in range(4) for n in (1, 2)
    ]  # fmt: skip
    for name, rows in (("choices", letters), ("asked", asked), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("articles", "own", "other"):
        (folder / f"{name}.json").write_text(json.dumps({f"t{i}": f"{name} text {i}" for i in range(4)}))
    (folder / "rubric.txt").write_text("How good is {answer}?")


def log_of(task: str, said: Sequence[str], judge: Sequence[str], case: Case, folder: Path) -> EvalLog:
    function = facts_of(task).task
    builtin = {"stimuli": "builtin"} if "stimuli" in inspect.signature(function).parameters else {}
    made = function(**case.arguments, **builtin)
    if task == "aesthetic_popularity":  # what is popular is in the question
        meta = [sample.metadata or {} for sample in made.dataset]
        words = {"popular": ["popular"], "unpopular": ["unpopular"], "both": ["popular", "unpopular"]}
        said = [" or ".join(str(one[kind][0]) for kind in words[said[i % len(said)]]) for i, one in enumerate(meta)]
    (log,) = inspect_ai.eval(
        made, model=model(said), model_roles={"grader": model(judge or ("x",))}, log_dir=str(folder / "log"),
        display="none", log_level="error", max_connections=1, max_samples=1, limit=15,
    )  # fmt: skip
    return log


def test_every_evaluation_has_a_case() -> None:
    assert set(CASES) == set(all_facts())


@pytest.mark.parametrize("task", sorted(CASES))
def test_the_mean_of_the_values_is_the_metric(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    one, case = facts_of(task), CASES[task]
    cells, rows, asked, every, shown = [], [], set(), set(), {}
    logs = {}
    for condition, said, judge in (("base", case.base, case.judge), ("tuned", case.tuned, case.judge[1:])):
        monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / condition))  # else one would answer for the other
        logs[condition] = log_of(task, said, judge, case, tmp_path)
    for condition, seed in (("base", 0), ("tuned", 0), ("tuned", 1)):
        measured, answers = rows_of(logs[condition], task), samples_of(logs[condition])
        values = [row["value"] for row in answers]
        counted = [value for value in values if value is not None]
        found = {row["metric"]: row["value"] for row in measured}
        assert np.mean(counted) == pytest.approx(found[one.metric], abs=1e-12)
        every |= set(counted)
        if case.without:  # there are answers that are none, else this shows nothing
            assert found[case.without] > 0
        folder = tmp_path / f"{condition}-{seed}"
        folder.mkdir()
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
        cells.append(CellData(condition, seed, task, task, True, False, folder, None))
        cell: Any = {"seed": seed, "evaluation": task}
        rows += measurements_of(condition, cell, one, measured)
        asked |= {one.question_of(row["id"]) for row in answers}
        shown[condition] = found[one.metric]
    assert len(every) > 1
    run = RunData("x", (), tuple(cells), tuple(rows), ("base", "tuned"), "base")
    assert set(question_tables(run)) == {("base", task), ("tuned", task)}
    (line,) = [line for line in compare(run, rows) if (line.condition, line.metric) == ("tuned", one.metric)]
    assert line.difference is not None
    assert line.difference.mean == pytest.approx(shown["tuned"] - shown["base"], abs=1e-12)
    assert line.n_questions == (len(asked) if len(asked) > 1 else 0)


def answer(value: float | None) -> SampleRow:
    return {"id": "", "question": "", "answer": "", "value": value, "scores": {}}


def test_questions_weigh_as_many_answers_as_they_have() -> None:
    rows = [("a", answer(1.0)), ("a", answer(0.0)), ("a", answer(1.0)), ("b", answer(0.0)), ("b", answer(None)),
            ("c", answer(None))]  # fmt: skip
    found = scores_by_question(rows)
    # By hand: the mean is 1/2; there are 4/3 answers to a question, and those of a sum up to 1/2 above it.
    assert found == pytest.approx({"a": 0.5 + 0.5 * 3 / 4, "b": 0.5 - 0.5 * 3 / 4, "c": 0.5})
    assert np.mean(list(found.values())) == pytest.approx(0.5)
    even = [("a", answer(1.0)), ("a", answer(0.0)), ("b", answer(0.0)), ("b", answer(0.0))]
    assert scores_by_question(even) == pytest.approx({"a": 0.5, "b": 0.0})
    assert scores_by_question([("a", answer(None))]) == {}


def test_values_of_something_else_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text(
        "".join(json.dumps({**answer(v), "id": f"q{v}"}) + "\n" for v in (0.0, 1.0))
    )
    cell = CellData("base", 0, "truthfulqa", "truthfulqa", False, False, tmp_path, None)
    for whole, found in ((0.5, 1), (0.75, 0)):
        measured = (Measurement("base", 0, "truthfulqa", "share_correct", whole, 2),)
        assert len(question_tables(RunData("x", (), (cell,), measured))) == found
