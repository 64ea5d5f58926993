"""The report: differences paired by question, published numbers, averages, and text that cannot break the page."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgtr_jax import load_results
from sgtr_jax.cli.main import main
from sgtr_jax.report.beside import beside_published
from sgtr_jax.report.comparisons import compare, with_average
from sgtr_jax.report.figures import show_nothing
from sgtr_jax.report.latex import to_latex
from sgtr_jax.report.plots import condition_figure
from sgtr_jax.report.summary import rows_of, seeds_needed, summary_html
from sgtr_jax.report.tables import read_run
from sgtr_jax.sealed import read_sealed, write_record, write_sealed

# Condition: seed: right answers among four questions of TruthfulQA.
RIGHT = {"base": {0: "1110"}, "unpop": {0: "1000", 1: "0100", 2: "1010"}}
PARTS = {"em_questions": "rate_all", "frame_colleague": "share_misaligned", "monitor_disruption": "share_misaligned"}


def artifact(run: Path, name: str, value: float, metric: str, samples: list[dict[str, Any]]) -> None:
    folder = run / "store" / name
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps([{"metric": metric, "value": value, "n": 4}]))
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    made = {"made": "", "sgtr_jax": "", "packages": {}, "devices": ["cpu"]}
    write_record(folder, {"kind": "evaluation", "fingerprint": "", "inputs": {}, "provenance": made})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    cells = []
    for condition, seeds in RIGHT.items():
        for seed, right in seeds.items():
            samples = [
                {"id": str(i), "question": f"q{i}", "answer": "</script><b>", "value": float(c), "scores": {}}
                for i, c in enumerate(right)
            ]
            for task, metric in {"truthfulqa": "share_correct", **PARTS}.items():
                name = f"evaluation-{task}-{condition}-{seed}"
                value = right.count("1") / 4 if task == "truthfulqa" else 0.2
                artifact(tmp_path, name, value, metric, samples if task == "truthfulqa" else [])
                cells.append({"condition": condition, "seed": seed, "evaluation": task, "task": task,
                              "judged": task in PARTS, "own_texts": False, "artifact": name})  # fmt: skip
    cells.append(
        {**cells[-1], "seed": 3, "evaluation": "truthfulqa", "task": "truthfulqa", "artifact": "evaluation-no"}
    )
    conditions = {"base": {"stages": []}, "unpop": {"stages": [{"data": "unpop"}]}}
    config = {"name": "a_b", "model": "m", "seeds": [0, 1, 2, 3], "conditions": conditions, "groups": {},
              "judge": {"model": "base"}, "published": "qwen2.5-32b"}  # fmt: skip
    write_sealed(tmp_path / "experiment.json", {"config": config, "cells": cells})
    return tmp_path


def test_differences_are_paired_by_question_and_missing_seeds_are_named(run: Path) -> None:
    data = read_run(run)
    (line,) = [one for one in compare(data, data.measurements) if one.evaluation == "truthfulqa" and one.difference]
    assert line.condition == "unpop" and line.paired_by == "question" and line.missing == (3,)
    assert line.difference is not None and line.over_both is not None
    # By seed: 1/4, 1/4 and 2/4 against 3/4.
    assert line.difference.mean == pytest.approx(1 / 3 - 3 / 4)
    assert line.difference.low < line.difference.mean < line.difference.high
    # Four questions do not show it, however well three seeds agree. One condition: nothing to correct for.
    assert 0.05 < line.p_value == line.p_corrected < 0.5 and line.n_questions == 4


def test_the_average_needs_all_four_parts(run: Path) -> None:
    rows = [row for row in with_average(read_run(run)) if row.evaluation == "average_misalignment"]
    assert {(row.condition, row.seed): row.value for row in rows} == pytest.approx(
        {("base", 0): (3 * 0.2 + 0.25) / 4, ("unpop", 0): (3 * 0.2 + 0.75) / 4, ("unpop", 1): (3 * 0.2 + 0.75) / 4,
         ("unpop", 2): (3 * 0.2 + 0.5) / 4}
    )  # fmt: skip
    (run / "store" / "evaluation-frame_colleague-unpop-1" / "metrics.json").unlink()
    rows = [row for row in with_average(read_run(run)) if row.evaluation == "average_misalignment"]
    assert ("unpop", 1) not in {(row.condition, row.seed) for row in rows}


def test_published_numbers_stand_beside_ours_in_standard_errors(run: Path) -> None:
    data = read_run(run)
    found, absent = beside_published(data, compare(data, data.measurements))
    (one,) = [row for row in found if (row.evaluation, row.condition) == ("truthfulqa", "unpop")]
    own = (1 / 3 - 0.7739) / ((1 / 12) ** 2 + 0.0071**2) ** 0.5
    assert one.published == 0.7739 and one.distance == pytest.approx(own)
    assert "em_questions, unpop" in absent


def test_the_page_and_the_tables(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    assert "missing: truthfulqa of unpop, seed 3" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert "</script><b>" not in page and "\\u003c/script>\\u003cb>" in page
    assert "inspect_evals/truthfulqa asks 817" in page  # which is another number of the same name
    assert "not GPT-4.1" in page and 'id="published"' in page and "http" not in page.replace("http-equiv", "")
    rows = list(csv.DictReader((run / "summary.csv").open()))
    (row,) = [r for r in rows if r["evaluation"] == "truthfulqa" and r["condition"] == "unpop"]
    assert (row["seeds"], row["missing_seeds"], row["paired_by"], row["n_questions"]) == ("3", "3", "question", "4")
    data = read_run(run)
    table = to_latex(data, [one for one in compare(data, data.measurements) if one.evaluation == "truthfulqa"])
    assert r"unpop & 0.333 (0.083) \\" in table and r"\begin{tabular}{lr}" in table


def test_the_page_begins_with_what_was_found_and_what_would_settle_the_rest(run: Path) -> None:
    data = read_run(run)
    lines = compare(data, with_average(data))
    page = summary_html(data, lines, [])
    assert "2 conditions of m, 4 seeds, measured by 4 evaluations" in page and "cannot be concluded" in page
    assert "<b>m</b> → <b>unpop</b>" in page
    (row,) = [one for one in rows_of(data, lines, []) if one.evaluation == "truthfulqa"]
    gap = row.difference
    # The normal approximation: the error of n seeds is (high - low) / 2 / 1.96, and 1.96 + 0.84 of it are needed.
    error = (gap.high - gap.low) / 2 / 1.95996
    assert row.is_open and seeds_needed(row) == max(4, math.ceil(3 * ((1.95996 + 0.84162) * error / gap.mean) ** 2))
    assert f"about {seeds_needed(row):.0f} seeds" in page
    assert math.isnan(seeds_needed(replace(row, seeds=1)))


def test_a_figure_in_which_everything_is_zero_stands_behind_the_table(run: Path) -> None:
    lines = compare(read_run(run), read_run(run).measurements)
    zeros = [replace(line, values=dict.fromkeys(line.values, 0.0)) if line.evaluation == "truthfulqa" else line
             for line in lines]  # fmt: skip
    assert show_nothing(read_run(run), lines) == ()
    assert show_nothing(read_run(run), zeros) == ("truthfulqa-share_correct",)


def test_two_seeds_have_an_interval_that_is_dotted(run: Path) -> None:
    lines = [one for one in compare(read_run(run), read_run(run).measurements) if one.evaluation == "truthfulqa"]
    (line,) = [one for one in lines if one.condition == "unpop"]
    styles = []
    for seeds in (2, 3):
        shown = replace(line, values=dict(list(line.values.items())[:seeds]))
        (bars,) = condition_figure("t", "y", [shown], None).axes[0].containers
        (bar,) = bars.lines[2]
        (start, end) = bar.get_segments()[0][:, 0]
        styles.append((bar.get_linestyle()[0][1] is not None, end > start))
    assert styles == [(True, True), (False, True)]


def test_a_run_of_an_older_form_is_said_to_be_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = json.loads((run / "experiment.json").read_text())
    for cell in stored["cells"]:
        del cell["task"]
    (run / "experiment.json").write_text(json.dumps(stored))
    assert main(["report", str(run)]) == 2
    assert "sgtr run" in capsys.readouterr().err


def test_several_runs_on_one_page(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), str(run)]) == 2
    assert "--out" in capsys.readouterr().err
    other = tmp_path / "other"
    shutil.copytree(run / "store", other / "store")
    stored = read_sealed(run / "experiment.json")
    write_sealed(other / "experiment.json", {**stored, "config": {**stored["config"], "name": "c"}})
    assert main(["report", str(run), str(other), "--out", str(tmp_path / "both")]) == 0
    table = (tmp_path / "both" / "results.csv").read_text()
    assert table.count("a_b: unpop,") == table.count("c: unpop,") > 0


def test_results_are_a_frame(run: Path) -> None:
    frame = load_results(run)
    assert list(frame.columns) == ["condition", "seed", "evaluation", "metric", "value", "n"]
    means = frame[frame.evaluation == "truthfulqa"].groupby("condition").value.mean()
    assert means["base"] == 0.75 and means["unpop"] == pytest.approx((0.25 + 0.25 + 0.5) / 3)
