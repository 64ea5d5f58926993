"""Several judges of the same answers: written out in the config, and how far they agree in the report."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.report.judges import agreements
from sgtr_jax.report.tables import read_run
from sgtr_jax.sealed import write_record, write_sealed

JUDGES = ["openai/one", {"model": "openai/two", "base_url": "http://127.0.0.1:9"}]


def config(judge: Any, **more: Any) -> ExperimentConfig:
    evaluations = {"em": {"kind": "em_questions", "settings": {"samples": 1}, "judge": judge}}
    data = {"name": "a", "model": "nano", "seeds": [0], "data": {}, "conditions": {"base": []}, "stimuli": "builtin"}
    return build_config(ExperimentConfig, {**data, "evaluations": evaluations, **more}, "a.yaml")


def test_each_judge_has_an_evaluation_and_all_read_the_same_answers() -> None:
    read = config(JUDGES, measure="em", may_share={})
    assert list(read.evaluations) == ["em", "em-by-two"] == list(read.measure or ())
    graph = build_graph(read)
    kinds = [node.kind for node in graph.nodes()]
    assert kinds.count("answers") == 1 and kinds.count("evaluation") == 2
    judges = [cell.node.judged_by for cell in graph.cells]
    assert [(one.model, one.base_url) for one in judges if one] == [
        ("openai/one", None), ("openai/two", "http://127.0.0.1:9")
    ]  # fmt: skip


@pytest.mark.parametrize(("judge", "said"), [([], "names no judge"), (["a/x", "b/x", "c/x"], "make 'em-by-x'")])
def test_lists_that_name_no_judge_or_one_twice_are_refused(judge: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        config(judge)


def write_run(folder: Path, verdicts: dict[str, list[float | None]]) -> None:
    cells = []
    for (name, values), judge in zip(verdicts.items(), ("openai/one", "openai/two"), strict=True):
        artifact = f"evaluation-{name}"
        (folder / "store" / artifact).mkdir(parents=True)
        rows = [{"id": str(i), "question": "q", "answer": "a", "value": v, "scores": {}} for i, v in enumerate(values)]
        known = [value for value in values if value is not None]
        metrics = [{"metric": "mean_score", "value": sum(known) / len(known), "n": len(known)}]
        (folder / "store" / artifact / "metrics.json").write_text(json.dumps(metrics))
        (folder / "store" / artifact / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = {"made": "", "sgtr_jax": "", "packages": {}, "devices": ["cpu"]}
        record = {
            "kind": "evaluation",
            "name": name,
            "fingerprint": "",
            "inputs": {"answers": "answers-1"},
            "provenance": made,
        }
        write_record(folder / "store" / artifact, {**record, "settings": {"judge": {"model": judge}}})
        cells.append({"condition": "base", "seed": 0, "evaluation": name, "task": "questions", "judged": True,
                      "own_texts": False, "artifact": artifact})  # fmt: skip
    settings = {"name": "a", "model": "m", "seeds": [0], "groups": {}, "judge": {"model": "openai/one"}}
    write_sealed(
        folder / "experiment.json", {"config": {**settings, "conditions": {"base": {"stages": []}}}, "cells": cells}
    )


def test_agreement_of_verdicts_is_that_of_cohen(tmp_path: Path) -> None:
    # Of ten answers with both verdicts: 4 both bad, 3 both good, 2 and 1 apart. One has no verdict.
    write_run(tmp_path, {"em": [1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 1], "em-by-two": [1, 1, 1, 1, 0, 0, 0, 0, 0, 1, None]})
    assert main(["report", str(tmp_path)]) == 0
    (one,) = agreements(read_run(tmp_path))
    assert (one.first, one.second, one.first_judge, one.second_judge) == ("em", "em-by-two", "openai/one", "openai/two")
    chance = 0.6 * 0.5 + 0.4 * 0.5
    assert (one.n, one.unscored, one.first_mean, one.second_mean) == (10, 1, 0.6, 0.5)
    assert one.changed == 0.3 and one.kappa == pytest.approx((0.7 - chance) / (1 - chance))
    assert math.isnan(one.spearman) and "Judges side by side" in (tmp_path / "report.html").read_text()
    with (tmp_path / "judges.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["kappa"]) == pytest.approx(0.4) and row["spearman"] == ""


def test_other_scores_have_a_rank_correlation(tmp_path: Path) -> None:
    write_run(tmp_path, {"em": [10, 20, 30, 40], "em-by-two": [1, 3, 2, 90]})
    (one,) = agreements(read_run(tmp_path))
    assert one.spearman == pytest.approx(1 - 6 * 2 / (4 * 15)) and math.isnan(one.kappa)
