"""What the project shows of an evaluation comes from the evaluation's own file, and nothing of it is left out."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import inspect_ai
import pytest
from test_experiment import CONFIG
from tiny import make_model

import sgtr_eval
from sgtr_eval import facts, registry
from sgtr_eval.facts import all_facts, facts_of
from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.sealed import write_record, write_sealed

PACKAGE = Path(sgtr_eval.__file__).parent
WRITES_ONLY = {"summarise"}  # a task without a scorer: its answers are what it is for

# Two draws of each of six questions, as the ids of the task number them.
IDS = {
    "em_questions": "q{q}-0-{n}", "truthfulqa": "q{q}-{ab}", "mmlu": "law-{q}", "frame_colleague": "draw-{n}",
    "monitor_disruption": "draw-{n}", "deception_factual": "lie-{q}-{n}", "word_counting": "words-{q}",
    "aesthetic_popularity": "music-{q}-{n}", "identity": "draw-{n}", "two_choice": "{q}", "questions": "q{q}-{n}",
    "self_recognition": "a{q}-own{n1}", "self_recognition_individual": "a{q}-Yes",
}  # fmt: skip


def test_every_task_of_the_package_has_its_facts() -> None:
    found = {task.name for task in inspect_ai.list_tasks(root_dir=PACKAGE)}
    assert found - WRITES_ONLY == set(all_facts()) and found >= WRITES_ONLY
    assert set(IDS) == set(all_facts())


def test_an_unknown_evaluation_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'truthfulqa'"):
        facts_of("truthfulqe")
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = registry.nothing_like_it


def cells_of(run: Path, task: str) -> list[dict[str, Any]]:
    """Measurements of an evaluation: of six questions the base model has five right, the tuned ones one."""
    one, cells = facts_of(task), []
    for condition, seed, right in (("base", 0, 5), ("tuned", 0, 1), ("tuned", 1, 1), ("tuned", 2, 2)):
        name = f"evaluation-{task}-{condition}-{seed}"
        folder = run / "store" / name
        folder.mkdir(parents=True)
        rows = []
        for n in range(2):
            for q in range(6):
                # Options in another order at every seed: the text is another one, and the question the same.
                sample = IDS[task].format(q=q, n=n, n1=n + 1, ab="AB" if (seed + q) % 2 else "BA")
                rows.append({"id": sample, "question": f"{q}, asked at seed {seed}", "answer": "x", "scores": {},
                             "value": float(q < right)})  # fmt: skip
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "metrics.json").write_text(json.dumps([{"metric": one.metric, "value": right / 6, "n": 12}]))
        made = {"made": "", "sgtr_jax": "", "packages": {}, "devices": ["cpu"]}
        write_record(folder, {"kind": "evaluation", "fingerprint": "", "inputs": {}, "provenance": made})
        cells.append({"condition": condition, "seed": seed, "evaluation": task, "task": task, "judged": False,
                      "own_texts": False, "artifact": name})  # fmt: skip
    return cells


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that measured every evaluation there is."""
    run = tmp_path_factory.mktemp("everything")
    cells = [cell for task in all_facts() for cell in cells_of(run, task)]
    conditions = {"base": {"stages": []}, "tuned": {"stages": [{"data": "x"}]}}
    config = {"name": "all", "model": "m", "seeds": [0, 1, 2], "conditions": conditions, "groups": {},
              "judge": {"model": "m"}, "published": None}  # fmt: skip
    write_sealed(run / "experiment.json", {"config": config, "cells": cells})
    assert main(["report", str(run)]) == 0
    return run


@pytest.mark.parametrize("task", sorted(IDS))
def test_no_evaluation_is_left_out_of_figure_paired_test_or_table(reported: Path, task: str) -> None:
    one = facts_of(task)
    assert (reported / "figures" / f"{task}-{one.metric}.svg").stat().st_size > 1000
    rows = list(csv.DictReader((reported / "summary.csv").open()))
    (row,) = [r for r in rows if (r["evaluation"], r["condition"]) == (task, "tuned")]
    assert row["metric"] == one.metric and row["difference"] != "" and row["p"] != ""
    alone = IDS[task].format(q="{q}", n=0, n1=1, ab="") == IDS[task].format(q="", n=0, n1=1, ab="")
    assert row["paired_by"] == ("seed" if alone else "question")
    head = next(line for line in (reported / "results.tex").read_text().splitlines() if line.startswith("condition"))
    arrow = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "neither": ""}[one.better]
    assert task.replace("_", r"\_") + arrow in head.removesuffix(r" \\").split(" & ")


def test_questions_are_the_same_at_every_seed() -> None:
    for task in ("truthfulqa", "em_questions", "aesthetic_popularity", "deception_factual"):
        asked = []
        for seed in (0, 1, 2):
            more = {} if task == "truthfulqa" else {"samples": 2}
            made = facts_of(task).task(seed=seed, stimuli="builtin", **more)
            asked.append({facts_of(task).question_of(str(sample.id)) for sample in made.dataset})
            assert len(asked[-1]) == len(made.dataset) // (1 if task == "truthfulqa" else 2), task
        assert asked[0] == asked[1] == asked[2], task
    both = facts_of("truthfulqa").task(both_orders=True, stimuli="builtin")
    assert len({facts_of("truthfulqa").question_of(str(s.id)) for s in both.dataset}) == len(both.dataset) // 2


# An evaluation of this test's own, as somebody would add it: one file, and nothing else.
PLUGIN = """
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Score, mean, scorer

from sgtr_eval.solvers import draw
from sgtr_eval.facts import Facts, Judging, Workload, number, register


@scorer(metrics=[mean()])
def length():
    async def score(state, target):
        return Score(value=float(len(state.output.completion) % 7), answer=state.output.completion)

    return score


@task
def brevity(samples: int = 2, seed: int = 0):
    rows = [Sample(id=f"b{q}-{n}", input=f"Say {q}.") for q in range(3) for n in range(samples)]
    settings = GenerateConfig(max_tokens=4, temperature=1.0)
    return Task(dataset=MemoryDataset(rows), solver=draw(seed), scorer=length(), config=settings)


register(Facts(brevity, metric="mean", better="lower", title="length of answers", axis="characters over sevens",
               workload=lambda given: Workload(3, number(given, "samples", 2), 4, 4), extent=(0.0, 6.0),
               draw_suffix=r"-\\d+$", own_texts=lambda given: False))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The throw-away evaluation, in a file that lies where the package looks for its own."""
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "brevity.py").write_text(PLUGIN)
    monkeypatch.setattr(sgtr_eval, "__path__", [*sgtr_eval.__path__, str(tmp_path / "plugin")])
    monkeypatch.setattr(facts, "_found", dict(facts._found))
    registry.discover()
    yield facts_of("brevity")
    sys.modules.pop("sgtr_eval.brevity")


def test_an_evaluation_is_one_file(plugin: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_model(tmp_path / "m")
    text = CONFIG.format(model=tmp_path / "m").split("evaluations:")[0]
    text = text.replace("  reversal: [{data: bad}, {data: sgtr}]\n", "")
    config = tmp_path / "plugged.yaml"
    config.write_text(text + "evaluations:\n  short: {kind: brevity, settings: {samples: 2}}\n")
    out = tmp_path / "out"
    assert main(["plan", str(config), f"out={out}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["nodes"] == 6
    assert main(["run", str(config), f"out={out}"]) == 0
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert {(row["condition"], row["metric"]) for row in rows} == {("base", "mean"), ("bad", "mean")}
    (line,) = [r for r in csv.DictReader((out / "summary.csv").open()) if r["condition"] == "bad"]
    assert line["difference"] != "" and line["paired_by"] == "question"
    assert r"short $\downarrow$" in (out / "results.tex").read_text()
    page = (out / "report.html").read_text()
    assert "length of answers" in page
    assert '<tr><td class="word">bad</td><td>0 of 3</td></tr>' in page
    assert (out / "figures" / "short-mean.svg").exists()
    assert main(["run", str(config), f"out={out}", "evaluations.short.settings.sample=3"]) == 2
    assert "did you mean 'samples'" in capsys.readouterr().err


def test_a_kind_that_is_no_evaluation_is_refused_with_the_nearest(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "name": "x", "model": "nano", "seeds": 1, "data": {}, "conditions": {"base": []},
        "evaluations": {"a": {"kind": "truthfulqe"}},
    }  # fmt: skip
    with pytest.raises(InputError, match=r"did you mean 'truthfulqa'.*truthfulqe"):
        build_config(ExperimentConfig, data, "f.yaml")
    data["evaluations"] = {"a": {"settings": {}}}
    with pytest.raises(InputError, match="kind"):
        build_config(ExperimentConfig, data, "f.yaml")
    data["evaluations"] = {"a": {"kind": "identity", "makers": "x", "maker": "y"}}
    with pytest.raises(InputError, match="did you mean 'maker'"):
        build_config(ExperimentConfig, data, "f.yaml")


def test_other_scores_of_the_same_answers_are_another_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that began before scores changed must not show old ones beside new ones."""
    data: dict[str, Any] = {
        "name": "x", "model": "nano", "seeds": 1, "data": {}, "conditions": {"base": []}, "judge": "world/rule",
        "evaluations": {
            "who": {"kind": "identity", "maker": "x"},
            "read": {"kind": "identity", "maker": "x", "judge": True},
        },
    }  # fmt: skip

    def nodes() -> dict[str, Any]:
        return {
            cell.evaluation: cell.node for cell in build_graph(build_config(ExperimentConfig, data, "f.yaml")).cells
        }

    before = nodes()
    monkeypatch.setitem(facts._found, "identity", dataclasses.replace(facts_of("identity"), revision=9))
    after = nodes()
    assert all(before[name].fingerprint != after[name].fingerprint for name in ("who", "read"))
    assert before["read"].answers.fingerprint == after["read"].answers.fingerprint  # these are scored again
