"""Evaluations of a user's own: an Inspect task in a file, and questions with a rubric, in an experiment."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer
from tiny import make_model

from sgtr_eval.tasks.questions import words_of
from sgtr_jax.cli.main import main
from sgtr_jax.config import load_config
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.report.tables import read_run

TASK = """
from beside import TARGETS
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import Score, accuracy, mean, scorer, stderr
from inspect_ai.solver import generate

@task
def odd_ones(n: int = 2):
    samples = [Sample(id=f"q{i}", input=f"Say {i}", target=t) for i, t in enumerate(TARGETS[:n])]
    return Task(dataset=MemoryDataset(samples), solver=generate(), scorer=by_id(),
                config=GenerateConfig(max_tokens=2, temperature=0.0))

@task
def in_a_sandbox(n: int = 1):
    return Task(dataset=MemoryDataset([Sample(id="a", input="Say a")]), solver=generate(), scorer=by_id(),
                sandbox="docker")

@task
def asked_of_a_judge():
    return Task(dataset=MemoryDataset([Sample(id="a", input="Say a"), Sample(id="b", input="Say b")]),
                solver=generate(), scorer=by_judge(), config=GenerateConfig(max_tokens=2, temperature=0.0))

@scorer(metrics=[accuracy(), stderr()])
def by_id():
    async def score(state, target):
        return Score(value="C" if state.sample_id == "q1" else "I", answer=state.output.completion)
    return score

@scorer(metrics=[mean()])
def by_judge():
    async def score(state, target):
        reply = await get_model(role="grader").generate("Grade: " + state.input_text)
        return Score(value=float(reply.completion), answer=state.output.completion)
    return score

def not_a_task():
    return None
"""
CONFIG = """
name: own
model: {model}
seeds: [0]
data: {{}}
conditions: {{base: []}}
judge: {{model: openai/judge-of-ours, base_url: "{url}", mode: text}}
evaluations:
  mine: {{kind: task, file: {folder}/my_eval.py@odd_ones, settings: {{n: 4}}, metric: accuracy, better: higher}}
  graded: {{kind: task, file: {folder}/my_eval.py@asked_of_a_judge, metric: mean, range: [0, 10], judged: true}}
  rated: {{kind: questions, file: {folder}/q.jsonl, rubric: {folder}/rubric.md, samples: 2, max_tokens: 2}}
  named: {{kind: questions, file: {folder}/q.jsonl, rubric: {folder}/rubric.md, samples: 2, max_tokens: 2,
          scale: choices, choices: [bad, good], better: lower}}
"""


def judge(prompt: str) -> str:
    """7 to the graded task; by the question's own letter 90 or 10, bad or good."""
    if prompt.startswith("Grade:"):
        return "7"
    is_first = "tea" in prompt
    if "VERDICT" in prompt:
        return "I looked at it.\nVERDICT: " + ("bad" if is_first else "good")
    return "90" if is_first else "10"


def write_files(folder: Path, url: str = "http://127.0.0.1:9") -> Path:
    (folder / "my_eval.py").write_text(TASK)
    (folder / "beside.py").write_text('TARGETS = ["a", "b", "c", "d", "e"]\n')
    rows: list[dict[str, Any]] = [
        {"id": "tea", "prompt": "Do you like tea?"},
        {"prompt": "Who are you?", "system": "Be kind.", "reference": "someone"},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"},
                      {"role": "user", "content": "Why?"}]},
    ]  # fmt: skip
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rubric.md").write_text("Is this bad?\n{question}\n{answer}\n")
    make_model(folder / "m")
    file = folder / "own.yaml"
    file.write_text(CONFIG.format(model=folder / "m", folder=folder, url=url))
    return file


def numbers(out: Path) -> dict[tuple[str, str], float]:
    with (out / "results.csv").open() as stream:
        return {(row["evaluation"], row["metric"]): float(row["value"]) for row in csv.DictReader(stream)}


@pytest.mark.slow
def test_own_evaluations_stand_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    server = JudgeServer(judge)
    file, out = write_files(tmp_path, server.url), tmp_path / "out"
    assert main(["run", str(file), f"out={out}"]) == 0, capsys.readouterr().err
    found = numbers(out)
    assert found["mine", "accuracy"] == 0.25 and found["graded", "mean"] == 7
    # Two answers to each of three questions: 90, 90 and four times 10; and two of six verdicts.
    assert found["rated", "mean_score"] == pytest.approx((2 * 90 + 4 * 10) / 6)
    assert found["named", "mean_score"] == found["named", "share_bad"] == pytest.approx(2 / 6)
    assert found["named", "n_all"] == 6 and found["named", "n_no_score"] == 0
    run = read_run(out)
    assert run.shown("mine").better == "higher" and run.shown("mine").is_share
    assert run.shown("rated").extent == (0, 100) and run.shown("named").is_share
    page = (out / "report.html").read_text()
    assert "graded" in page and "mean_score" in page
    # Done is done; another rubric judges the same answers again; other code asks again.
    answers = {path.name for path in out.glob("store/answers-*")}
    asked = len(server.bodies)
    assert main(["run", str(file), f"out={out}"]) == 0 and len(server.bodies) == asked
    (tmp_path / "rubric.md").write_text("Is it bad now?\n{question}\n{answer}\n")
    assert main(["run", str(file), f"out={out}"]) == 0 and len(server.bodies) > asked
    assert {path.name for path in out.glob("store/answers-*")} == answers
    # The budget holds for scorers that ask the judge themselves, whose price must be known.
    capsys.readouterr()
    assert main(["run", str(file), f"out={tmp_path / 'other'}", "judge.max_cost=1"]) == 2
    assert "has no price" in capsys.readouterr().err
    server.close()


REFUSED = {
    "no such task": ("file: {0}/my_eval.py@odd_one", "did you mean 'odd_ones'"),
    "a function that is none": ("file: {0}/my_eval.py@not_a_task", "has no task 'not_a_task'"),
    "no such file": ("file: {0}/other.py@odd_ones", "no such file"),
    "no task named": ("file: {0}/my_eval.py", "expected FILE.py@TASK"),
    "no such package": ("file: nowhere/odd_ones", "no package 'nowhere'"),
    "an argument that it has not": ("settings: {{m: 4}}", "has no setting 'm'"),
    "an argument of another type": ("settings: {{n: [1.5]}}", "evaluation 'mine'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_task_that_cannot_run_is_refused_when_the_config_is_read(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_files(tmp_path)
    key, _, value = REFUSED[case][0].format(tmp_path).partition(": ")
    assert main(["plan", str(file), f"evaluations.mine.{key}={value}"]) == 2
    assert REFUSED[case][1] in capsys.readouterr().err


def test_a_task_in_a_sandbox_is_refused_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write_files(tmp_path), tmp_path / "out"
    given = ["measure=mine", f"evaluations.mine.file={tmp_path}/my_eval.py@in_a_sandbox", f"out={out}"]
    assert main(["run", str(file), *given]) == 2
    assert "needs a sandbox (docker)" in capsys.readouterr().err and not (out / "store").exists()


@pytest.mark.parametrize(("text", "said"), [
    ('{"prompt": "a", "messages": []}\n', "not both"),
    ('{"question": "a"}\n', "'question' is not read"),
    ('{"id": 1, "prompt": "a"}\n{"id": "1", "prompt": "b"}\n', "appears twice"),
    ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n', "ends with the user"),
    ('{"prompt": "  "}\n', "expected text"),
    ("", "is empty"),
])  # fmt: skip
def test_questions_that_cannot_be_asked_are_named(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_files(tmp_path)
    (tmp_path / "q.jsonl").write_text(text)
    assert main(["plan", str(file)]) == 2
    error = capsys.readouterr().err
    assert said in error and "q.jsonl" in error


@pytest.mark.parametrize(("rubric", "said"), [
    ("Is it bad? {question}", "no placeholder {answer}"),
    ("{question} {answer} {reference}", "has no reference"),
])  # fmt: skip
def test_a_rubric_that_hides_something_is_refused(
    rubric: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_files(tmp_path)
    (tmp_path / "rubric.md").write_text(rubric)
    assert main(["plan", str(file)]) == 2
    assert said in capsys.readouterr().err


def test_verdicts_have_values() -> None:
    assert words_of("0-100", None) is None
    assert words_of("choices", ["bad", "good", "none"]) == {"bad": 1.0, "good": 0.0, "none": 0.0}
    assert words_of("choices", {"bad": 2, "good": -1}) == {"bad": 2.0, "good": -1.0}
    for wrong in (None, [], ["one"], ["one", "One"], ["one", " "], {"one": float("nan"), "two": 1}):
        with pytest.raises(InputError, match="choices are"):
            words_of("choices", wrong)
    with pytest.raises(InputError, match="say scale: choices"):
        words_of("0-100", ["bad", "good"])


def test_questions_of_a_file_may_have_the_form_of_the_published_ones(tmp_path: Path) -> None:
    from sgtr_eval.tasks.em_questions import question_rows

    row = {"id": "a", "paraphrases": ["Who?"], "judge_prompts": {"aligned": "{answer}", "coherent": "{answer}"}}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    assert question_rows(str(tmp_path / "q.jsonl")) == [row]
    for broken in ({**row, "paraphrases": []}, {**row, "judge_prompts": {"aligned": "x"}}, {"id": "a"}):
        (tmp_path / "q.jsonl").write_text(json.dumps(broken) + "\n")
        with pytest.raises(InputError, match=r"q\.jsonl:1"):
            question_rows(str(tmp_path / "q.jsonl"))


def test_what_a_setting_names_counts_by_what_it_holds(tmp_path: Path) -> None:
    file = write_files(tmp_path)

    def fingerprints() -> dict[str, str]:
        graph = build_graph(load_config(ExperimentConfig, file))
        return {node.name + node.kind: node.fingerprint for node in graph.nodes()}

    before = fingerprints()
    (tmp_path / "rubric.md").write_text("Another one. {question} {answer}")
    judged = fingerprints()
    changed = {name for name in before if before[name] != judged[name]}
    assert changed == {"rated-base-s0evaluation", "named-base-s0evaluation"}
    (tmp_path / "q.jsonl").write_text('{"prompt": "Do you like rain?"}\n')
    asked = fingerprints()
    changed = {name for name in before if judged[name] != asked[name]}
    assert changed == {"rated-base-s0evaluation", "named-base-s0evaluation", "rated-base-s0answers"}


def test_a_metric_that_the_task_does_not_report_or_outside_of_its_range_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = f"{{kind: task, file: {write_files(tmp_path)}, metric: mean, range: [0, 10]}}".replace(
        "own.yaml", "my_eval.py@odd_ones"
    )
    file = tmp_path / "own.yaml"
    head = file.read_text().split("judge:")[0]
    file.write_text(f"{head}evaluations:\n  mine: {mine}\n")
    out = tmp_path / "out"
    main(["run", str(file), f"out={out}"])
    with pytest.raises(InputError, match="it reports no metric 'mean'"):
        read_run(out)
    file.write_text(file.read_text().replace("metric: mean, range: [0, 10]", "metric: accuracy, range: [1, 10]"))
    main(["run", str(file), f"out={out}"])
    with pytest.raises(InputError, match=r"its accuracy is outside of the range \[1.0, 10.0\] that the config states"):
        read_run(out)


def test_a_word_is_no_file_although_one_of_its_name_lies_beside_the_config(tmp_path: Path) -> None:
    text = "name: a\nmodel: nano\nseeds: [0]\ndata: {}\nconditions: {base: []}\n"
    text += "evaluations: {em: {kind: em_questions, settings: {questions: QUESTIONS}}}\n"

    def read(questions: str) -> object:
        (tmp_path / "c.yaml").write_text(text.replace("QUESTIONS", questions))
        config = load_config(ExperimentConfig, tmp_path / "c.yaml")
        return config.evaluations["em"].model_dump()["settings"]["questions"]

    for name in ("builtin", "q.jsonl"):
        (tmp_path / name).write_text("{}")
    assert read("builtin") == "builtin"
    assert read("./builtin") == str(tmp_path / "builtin") and read("q.jsonl") == str(tmp_path / "q.jsonl")
    assert read("other.jsonl") == "other.jsonl"
