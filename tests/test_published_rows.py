"""Every published row has a condition to stand beside, or a reason why it has none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from sgtr_jax.config import load_config
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.report.beside import Published, beside_published, standard_error
from sgtr_jax.report.comparisons import compare
from sgtr_jax.report.page import render_page
from sgtr_jax.report.published import published_numbers
from sgtr_jax.report.tables import CellData, Measurement, RunData
from sgtr_jax.report.unmatched import NO_CONDITION, NO_EVALUATION, NO_RESULT, unmet_published, why_never

PAPER = Path(__file__).parent.parent / "configs" / "paper"
STUDIES = {path.stem: load_config(ExperimentConfig, path) for path in PAPER.glob("*.yaml") if path.stem != "study"}
CONFIGS = {name: config for name, config in STUDIES.items() if config.published is not None}  # of Olmo nothing is yet


def test_every_published_model_has_its_config() -> None:
    assert {config.published for config in CONFIGS.values()} == set(published_numbers()["models"])


@pytest.mark.parametrize("name", CONFIGS)
def test_every_published_row_meets_a_condition_or_a_reason(name: str) -> None:
    config = CONFIGS[name]
    kinds = {name: spec.kind for name, spec in config.wanted_evaluations.items()}
    rows = 0
    for table, content in published_numbers()["models"][config.published].items():
        assert table in kinds or table in kinds.values(), f"no evaluation of {name} has the table {table}"
        for condition in content["rows"]:
            rows += 1
            is_there, why = condition in config.wanted_conditions, why_never(condition)
            assert is_there != (why is not None), f"{table}, {condition}: in the config {is_there}, listed {why}"
    assert rows > 5
    assert all(reason.strip() for reason in published_numbers()["not_measured"].values())


def run_of(*cells: tuple[str, str, str]) -> RunData:
    """A run of evaluations, tasks and conditions."""
    made = [
        CellData(condition, 0, evaluation, task, False, False, Path("x"), None) for evaluation, task, condition in cells
    ]
    config = {"published": "qwen2.5-32b", "name": "x", "model": "m", "seeds": [0], "conditions": {}}
    return RunData("x", (config,), tuple(made), (), tuple(dict.fromkeys(cell.condition for cell in made)), None, ())


def test_the_report_lists_what_was_published_and_not_measured() -> None:
    run = run_of(
        ("tqa", "truthfulqa", "unpop"),
        ("tqa", "truthfulqa", "badmed"),
        ("self_recognition_own", "self_recognition", "unpop"),
    )
    met = [Published("tqa", "share_correct", "unpop", 0.7, None, 5, "", 0.6, None, 1, None)]
    unmet = unmet_published(run, met)
    tables = published_numbers()["models"]["qwen2.5-32b"]
    assert unmet[NO_RESULT]["truthfulqa"] == ["badmed"]
    assert "unpop" not in [row for by_table in unmet.values() for row in by_table.get("truthfulqa", ())]
    assert unmet[NO_EVALUATION]["identity"] == list(tables["identity"]["rows"])
    assert "finrisk" in unmet[NO_CONDITION]["truthfulqa"]
    # Every row that is not met is there once.
    count = sum(len(rows) for by_table in unmet.values() for rows in by_table.values())
    assert count == sum(len(content["rows"]) for content in tables.values()) - 1
    page = render_page(run, [], [], [], [], [], [], [], [], (met, []), {"cells": []}, 10)
    assert (
        f"Published, but not measured here: {count} rows" in page and "2, because its condition is in this run" in page
    )


def test_what_was_never_published_is_named_with_its_reason() -> None:
    frame = run_of(("frame_colleague", "frame_colleague", "unpop"))
    reasons = unmet_published(frame, [])
    (why,) = [why for why in reasons if "never published" in why]
    assert "unpop-then-fincorr" in reasons[why]["frame_colleague"]
    assert unmet_published(RunData("x", ({"name": "x", "published": None},), frame.cells, ()), []) == {}


@pytest.mark.parametrize(
    ("mean", "spread", "seeds", "answers", "wanted"),
    [
        (0.3, 0.05, 5, 100, 0.05),  # the seeds differ by more than answers do
        (0.3, 0.0, 5, 100, math.sqrt(0.3 * 0.7 / 500)),  # seeds that all give the same
        (0.3, None, 1, 100, math.sqrt(0.3 * 0.7 / 100)),  # one seed has the error of its answers
        (0.0, None, 1, 100, math.sqrt(0.5 / 101 * 100.5 / 101 / 100)),  # none of 100 is not exact
        (0.3, None, 1, None, None),  # nobody knows
    ],
)
def test_errors_of_one_seed_are_those_within_the_run(
    mean: float, spread: float | None, seeds: int, answers: int | None, wanted: float | None
) -> None:
    assert standard_error(mean, spread, seeds, answers) == (None if wanted is None else pytest.approx(wanted, rel=0.02))


def test_other_quantities_have_no_distance() -> None:
    def beside(evaluation: str, source: str, condition: str, metric: str = "share_correct") -> Published:
        run = run_of((evaluation, "identity" if "clusters" in metric else "self_recognition", condition))
        config = {**run.configs[0], "evaluations": {evaluation: {"source": source}}}
        rows = [Measurement(condition, seed, evaluation, metric, 0.8 + seed / 100, 2000) for seed in (0, 1)]
        run = replace(run, configs=(config,), measurements=tuple(rows))  # type: ignore[arg-type]
        (found,), _ = beside_published(run, compare(run, rows, {}))
        return found

    own = beside("self_recognition_own", "self", "sgtr")
    assert (own.published, own.published_seeds) == (0.8422, 5) and own.distance == pytest.approx(
        (0.805 - 0.8422) / math.hypot(0.0124, 0.005), rel=1e-3
    )
    base = beside("self_recognition", "base", "sgtr")
    assert base.published == 0.9075 and base.distance is not None and base.note == ""
    mixed = beside("self_recognition", "self", "sgtr")
    assert mixed.distance is None and "not comparable: published for the base model's summaries" in mixed.note
    clusters = beside("identity", "base", "unpop", "clusters_single_0.85")
    assert clusters.published == 67 and clusters.distance is None and "embedding" in clusters.note
