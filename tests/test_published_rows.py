"""Every published row has a condition to stand beside, or a reason why it has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgtr_jax.config import load_config
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.report.comparisons import Published
from sgtr_jax.report.page import render_page
from sgtr_jax.report.published import published_numbers
from sgtr_jax.report.tables import CellData, RunData
from sgtr_jax.report.unmatched import NO_CONDITION, NO_EVALUATION, NO_RESULT, unmet_published, why_never

PAPER = Path(__file__).parent.parent / "configs" / "paper"
CONFIGS = {path.stem: load_config(ExperimentConfig, path) for path in PAPER.glob("*.yaml") if path.stem != "study"}


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
    config = {"published": "qwen2.5-32b", "name": "x"}
    return RunData("x", (config,), tuple(made), (), tuple(dict.fromkeys(cell.condition for cell in made)), None, ())


def test_the_report_lists_what_was_published_and_not_measured() -> None:
    run = run_of(
        ("tqa", "truthfulqa", "unpop"),
        ("tqa", "truthfulqa", "badmed"),
        ("self_recognition", "self_recognition", "unpop"),
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
    page = render_page(run, [], [], [], [], [], (met, []), {"cells": []}, 10)
    assert (
        f"Published, but not measured here: {count} rows" in page and "2, because its condition is in this run" in page
    )


def test_what_was_never_published_is_named_with_its_reason() -> None:
    frame = run_of(("frame_colleague", "frame_colleague", "unpop"))
    reasons = unmet_published(frame, [])
    (why,) = [why for why in reasons if "never published" in why]
    assert "unpop-then-fincorr" in reasons[why]["frame_colleague"]
    assert unmet_published(RunData("x", ({"name": "x", "published": None},), frame.cells, ()), []) == {}
