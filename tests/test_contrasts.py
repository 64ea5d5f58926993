"""Contrasts: read from a config, written by the matrix, tested by the report and corrected together."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgtr_eval.statistics import Difference, Interval, difference_of_conditions, paired_difference
from sgtr_jax.cli.main import main
from sgtr_jax.config import apply_overrides, build_config, load_config
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.contrasts import Planned
from sgtr_jax.report.claims import NOT_SUPPORTED, OPEN, SUPPORTED, claims_html, judged_claims
from sgtr_jax.report.contrasts import (
    EQUIVALENT,
    HIGHER,
    INFERIOR,
    LOWER,
    NONE_OF_SIZE,
    NONE_SHOWN,
    NOT_EQUIVALENT,
    NOT_INFERIOR,
    NOT_MEASURED,
    NOT_SHOWN,
    Scores,
    all_tested,
    difference_of,
    p_values,
    verdict,
)
from sgtr_jax.report.question_tables import question_tables
from sgtr_jax.report.tables import read_run
from sgtr_jax.sealed import read_sealed, write_record, write_sealed

PAPER = Path(__file__).parent.parent / "configs" / "paper"
DATA = {name: {"kind": "registry", "name": "unpop"} for name in ("bad", "worse", "sgtr", "mmlu")}
SMALL: dict[str, Any] = {
    "name": "small", "model": "nano", "seeds": 3, "data": DATA,
    "matrix": {"em": ["bad", "worse"], "interventions": ["sgtr", "mmlu"], "systems": {"nosys": "none"}},
    "evaluations": {"questions": {"kind": "em_questions"}, "facts": {"kind": "truthfulqa"},
                    "who": {"kind": "self_recognition", "articles": {"kind": "world", "rows": 4}}},
}  # fmt: skip


def small(*overrides: str, **more: Any) -> ExperimentConfig:
    return build_config(ExperimentConfig, apply_overrides({**SMALL, **more}, overrides), "small")


def sides(config: ExperimentConfig, contrast: str) -> set[tuple[str, str]]:
    return {(one.of, one.against) for one in config.planned_contrasts if one.contrast == contrast}


def test_the_matrix_compares_with_the_baseline_of_the_same_system_prompt() -> None:
    config = small("matrix.primary={interventions: [sgtr], em: [bad], evaluations: [facts]}")
    assert sides(config, "reversal-primary") == {("bad-then-sgtr", "bad")}
    assert sides(config, "damage-nosys") == {("bad-nosys", "base-nosys"), ("worse-nosys", "base-nosys")}
    assert ("sgtr-then-worse-nosys", "worse-nosys") in sides(config, "prevention-nosys")
    assert sides(config, "reversal-controls") == {(f"{em}-then-sgtr", f"{em}-then-mmlu") for em in ("bad", "worse")}
    primary = [one for one in config.planned_contrasts if one.primary]
    assert {(one.contrast, one.evaluation, one.metric) for one in primary} == {
        ("reversal-primary", "facts", "share_correct"), ("prevention-primary", "facts", "share_correct")
    }  # fmt: skip
    # Each comparison is tested once.
    keys = [(one.of, one.against, one.evaluation) for one in config.planned_contrasts]
    assert len(keys) == len(set(keys))
    assert build_config(ExperimentConfig, config.model_dump(mode="json"), "again") == config


def test_seeds_are_paired_where_both_continue_the_same_model() -> None:
    found = {one.contrast: one for one in small("matrix.primary.interventions=[sgtr]").planned_contrasts}
    assert found["reversal"].paired and found["reversal-controls"].paired
    assert not found["prevention"].paired and not found["damage"].paired
    assert found["damage"].of_trained and not found["damage"].against_trained


def test_a_condition_brings_what_it_is_compared_with() -> None:
    kept = list(small("only=[bad-then-sgtr-nosys]").wanted_conditions)
    assert kept == ["base-nosys", "bad-nosys", "bad-then-sgtr-nosys"]
    assert list(small("only=[base]").wanted_conditions) == ["base"]
    only = small("only=[bad-then-sgtr]", "measure=facts")
    assert {(one.of, one.evaluation) for one in only.planned_contrasts} == {
        ("bad-then-sgtr", "facts"),
        ("bad", "facts"),
    }


def test_numbers_in_names_and_what_words_stand_for() -> None:
    own = {"of": "{em}-with-{x}-{share}", "against": "{em}", "where": {"share": ["0.1"]}}
    during = "matrix.during={interleave: {mmlu: [0.1, 0.33]}}"
    config = small(during, "matrix.systems={}", contrasts={"mine": own})
    assert {(one.of, one.against) for one in config.planned_contrasts if one.contrast == "mixed"} == {
        (f"{em}-with-mmlu-{share}", em) for em in ("bad", "worse") for share in ("0.1", "0.33")
    }
    assert sides(small(during, contrasts={"mine": {**own, "kind": "equivalence", "margin": 0.1}}), "mine") == {
        ("bad-with-mmlu-0.1", "bad"), ("worse-with-mmlu-0.1", "worse")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("contrast", "said"),
    [
        ({"of": "{em}-then-sgt", "against": "{em}"}, r"'{em}-then-sgt' means no condition"),
        ({"of": "bad-then-sgtr", "against": "badd"}, r"'badd', which is no condition: did you mean 'bad'\?"),
        ({"of": "{x}", "against": "{x}-then-sgtr"}, "'sgtr' with 'sgtr-then-sgtr', which is no condition"),
        ({"of": "bad", "against": "bad"}, "nothing but themselves"),
        ({"of": "bad", "against": "base", "evaluations": "factss"}, r"'factss': did you mean 'facts'\?"),
        ({"of": "bad", "against": "base", "evaluations": "facts", "metric": "share_corect"}, "share_correct"),
        ({"of": "bad", "against": "base", "kind": "equivalence"}, "needs a margin"),
        ({"of": "bad", "against": "base", "kind": "equivalence", "margin": 0}, "greater than 0"),
        ({"of": "bad", "against": "base", "where": {"y": ["a"]}}, "'y' occurs neither"),
        ({"of": "bad", "against": "base", "kind": "non_inferiority", "margin": 0.1}, "neither more nor less"),
        ({"of": "bad", "against": "base", "kind": "non_inferiority", "margin": 0.1, "metric": "invalid",
          "evaluations": "facts"}, "primary metric, 'share_correct'"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_refused_when_the_config_is_read(contrast: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        small(contrasts={"mine": contrast})


def test_a_primary_one_of_nothing_is_refused() -> None:
    for override in ("matrix.primary.interventions=[sgrt]", "matrix.primary.em=[bda]"):
        with pytest.raises(InputError, match="is not in the matrix"):
            small(override)
    with pytest.raises(InputError, match="'reversal-primary' names evaluation 'truth'"):
        small("matrix.primary={interventions: [sgtr], evaluations: [truth]}")


@pytest.mark.parametrize("path", sorted(PAPER.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_study_states_what_it_is_about(path: Path) -> None:
    if path.name != "study.yaml":
        primary = [one for one in load_config(ExperimentConfig, path, []).planned_contrasts if one.primary]
        assert {one.evaluation for one in primary} == {
            "em_questions", "truthfulqa", "frame_colleague", "monitor_disruption"
        }  # fmt: skip
        assert all("sgtr" in one.of and "sgtr" not in one.against for one in primary)


def table(rng: np.random.Generator, seeds: int, rate: float) -> Scores:
    answers = (rng.random((seeds, 40)) < rate).astype(float)
    return Scores({s: float(row.mean()) for s, row in enumerate(answers)},
                  {s: {f"q{i}": float(v) for i, v in enumerate(row)} for s, row in enumerate(answers)},
                  seeds > 1)  # fmt: skip


def test_which_comparison_is_made() -> None:
    rng = np.random.default_rng(0)
    one, other, base = table(rng, 3, 0.8), table(rng, 4, 0.4), table(rng, 1, 0.1)
    rows = {id(s): [list(by_q.values()) for by_q in s.questions.values()] for s in (one, other, base)}
    assert difference_of(one, other, 40, paired=False) == (
        difference_of_conditions(rows[id(one)], rows[id(other)], 40), False
    )  # fmt: skip
    assert difference_of(one, other, 40, paired=True) == (
        difference_of_conditions(rows[id(one)], rows[id(other)][:3], 40, paired=True), True
    )  # fmt: skip
    against_base, _ = difference_of(one, base, 40, paired=False)
    wanted = paired_difference(rows[id(one)], rows[id(base)][0], 40)
    assert against_base.p_value == pytest.approx(wanted.p_value, rel=1e-6)
    assert (against_base.difference.low, against_base.difference.high) == pytest.approx(
        (wanted.difference.low, wanted.difference.high)
    )
    turned, _ = difference_of(base, one, 40, paired=False)
    inside, of = turned.difference, against_base.difference
    assert (inside.mean, inside.low, inside.high) == (-of.mean, -of.high, -of.low)
    assert turned.p_above(0.1) == pytest.approx(against_base.p_below(-0.1), rel=1e-6)
    assert turned.p_value == against_base.p_value
    # A trained model with one seed says nothing of other runs, on either side.
    alone = Scores({0: 0.5}, {}, trained=True)
    for a, b in ((one, alone), (alone, one), (alone, alone)):
        assert math.isnan(difference_of(a, b, 40, paired=False)[0].p_value)
    # Without questions the seeds' values are compared.
    plain = Scores(other.values, {}, True)
    assert difference_of(one, plain, 40, paired=False)[0].n_questions == 0


@pytest.mark.parametrize(
    ("kind", "margin", "better", "gap", "se", "found"),
    [
        ("difference", None, "lower", 0.3, 0.1, HIGHER), ("difference", None, "lower", -0.3, 0.1, LOWER),
        ("difference", None, "lower", 0.1, 0.1, NONE_SHOWN), ("difference", 0.2, "lower", 0.01, 0.05, NONE_OF_SIZE),
        ("equivalence", 0.1, "lower", 0.02, 0.02, EQUIVALENT), ("equivalence", 0.1, "lower", 0.08, 0.02, NOT_SHOWN),
        ("equivalence", 0.1, "lower", -0.3, 0.02, NOT_EQUIVALENT),
        ("non_inferiority", 0.1, "lower", 0.02, 0.02, NOT_INFERIOR),
        ("non_inferiority", 0.1, "lower", 0.3, 0.02, INFERIOR),
        ("non_inferiority", 0.1, "lower", -0.9, 0.02, NOT_INFERIOR),
        ("non_inferiority", 0.1, "higher", -0.3, 0.02, INFERIOR),
        ("non_inferiority", 0.1, "higher", 0.3, 0.02, NOT_INFERIOR),
        ("non_inferiority", 0.1, "higher", -0.1, 0.02, NOT_SHOWN),
    ],
)  # fmt: skip
def test_verdicts(kind: str, margin: float | None, better: str, gap: float, se: float, found: str) -> None:
    from sgtr_eval.statistics import Variance, _difference

    of = _difference(gap, [Variance(se**2, 8)], None, 3, 10, None)
    assert verdict(kind, gap, *p_values(of, kind, margin, better)) == found
    unknown = Difference(Interval(gap, math.nan, math.nan, 1), math.nan, 0)
    assert verdict(kind, gap, *p_values(unknown, kind, margin, better)) == NOT_SHOWN


def made_run(folder: Path, rates: dict[str, float], contrasts: list[Planned], seeds: int = 3) -> Path:
    """A run whose answers are drawn at these rates; the first condition is the base model."""
    rng = np.random.default_rng(4)
    cells = []
    for condition, rate in rates.items():
        for seed in range(1 if condition == "base" else seeds):
            answers = (rng.random(200) < rate).astype(float)
            name = f"evaluation-facts-{condition}-{seed}"
            made = folder / "store" / name
            made.mkdir(parents=True)
            metrics = [{"metric": "share_correct", "value": float(answers.mean()), "n": 200},
                       {"metric": "invalid", "value": 0.1 * seed, "n": 200}]  # fmt: skip
            (made / "metrics.json").write_text(json.dumps(metrics))
            rows = [
                {"id": str(i), "question": "?", "answer": "!", "value": v, "scores": {}} for i, v in enumerate(answers)
            ]
            (made / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            record = {"made": "", "sgtr_jax": "", "packages": {}, "devices": ["cpu"]}
            write_record(made, {"kind": "evaluation", "fingerprint": "", "inputs": {}, "provenance": record})
            cells.append({"condition": condition, "seed": seed, "evaluation": "facts", "task": "truthfulqa",
                          "judged": False, "own_texts": False, "artifact": name})  # fmt: skip
    stages = {name: {"stages": [] if name == "base" else [{"data": name}]} for name in rates}
    config = {"name": "r", "model": "m", "seeds": list(range(seeds)), "conditions": stages, "groups": {},
              "judge": {"model": "base"}}  # fmt: skip
    planned = [one.to_json() for one in contrasts]
    write_sealed(folder / "experiment.json", {"config": config, "cells": cells, "contrasts": planned})
    return folder


def planned(of: str, against: str, primary: bool, kind: Any = "difference", margin: float | None = None,
            metric: str = "share_correct") -> Planned:  # fmt: skip
    better: Any = "higher" if metric == "share_correct" else "neither"
    return Planned("c", of, against, "facts", metric, kind, margin, primary, False, better, True, against != "base")


def test_the_report_shows_them_and_corrects_the_primary_family(tmp_path: Path) -> None:
    contrasts = [
        planned("bad", "base", True), planned("good", "bad", True), planned("same", "bad", True),
        planned("same", "bad", False, "equivalence", 0.2), planned("gone", "bad", True),
        planned("good", "bad", False, metric="invalid"),
    ]  # fmt: skip
    run = made_run(tmp_path, {"base": 0.85, "bad": 0.5, "good": 0.8, "same": 0.5}, contrasts)
    assert main(["report", str(run)]) == 0
    rows = list(csv.DictReader((run / "contrasts.csv").open()))
    assert [row["found"] for row in rows] == [LOWER, HIGHER, NONE_SHOWN, EQUIVALENT, NOT_MEASURED, NONE_SHOWN]
    assert [row["family"] for row in rows] == ["primary"] * 3 + ["exploratory", "primary", "exploratory"]
    p = [float(row["p"]) for row in rows[:3]]
    corrected = [float(row["p_holm"]) for row in rows[:3]]
    # Three primary ones were measured.
    assert sorted(corrected)[0] == pytest.approx(3 * min(p), rel=1e-4) and corrected[2] == pytest.approx(p[2], rel=1e-4)
    assert all(row["p_holm"] == "" for row in rows[3:])
    for row in rows[:4]:
        assert (float(row["low"]) > 0) == (float(row["effect_low"]) > 0)
        assert (float(row["high"]) < 0) == (float(row["effect_high"]) < 0)
    page = (run / "report.html").read_text()
    assert 'id="contrasts"' in page and "2 exploratory comparisons" in page
    assert r"good & bad & facts & difference & +0.3" in (run / "contrasts.tex").read_text()
    stored = read_sealed(run / "experiment.json")
    del stored["contrasts"]  # a run of an older version
    write_sealed(run / "experiment.json", stored)
    assert main(["report", str(run)]) == 0 and 'id="contrasts"' not in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("needs", "verdict"),
    [
        ({"damage": "worse", "repair": "better"}, SUPPORTED), ({"damage": "better"}, NOT_SUPPORTED),
        ({"damage": "lower", "equal": "holds"}, SUPPORTED), ({"repair": "better", "idle": "better"}, OPEN),
        ({"repair": "better", "gone": "better"}, OPEN), ({"repair": "lower", "gone": "better"}, NOT_SUPPORTED),
        ({"again": "higher"}, SUPPORTED),
    ],
)  # fmt: skip
def test_claims_are_supported_contradicted_or_open(tmp_path: Path, needs: dict[str, str], verdict: str) -> None:
    contrasts = [
        replace(planned("bad", "base", True), contrast="damage"),
        replace(planned("good", "bad", True), contrast="repair", also=("again",)),
        replace(planned("same", "bad", True), contrast="idle"),
        replace(planned("same", "bad", False, "equivalence", 0.2), contrast="equal"),
        replace(planned("gone", "bad", True), contrast="gone"),
    ]
    run = made_run(tmp_path, {"base": 0.85, "bad": 0.5, "good": 0.8, "same": 0.5}, contrasts)
    stored = read_sealed(run / "experiment.json")
    stored["config"]["claims"] = {"mine": {"text": "A <claim>.", "needs": needs},
                                  "other": {"text": "Not here.", "needs": {"elsewhere": "better"}}}  # fmt: skip
    write_sealed(run / "experiment.json", stored)
    data = read_run(run)
    (one,) = judged_claims(data.claims, all_tested(data, data.measurements, question_tables(data)))
    assert (one.text, one.verdict) == ("A <claim>.", verdict)
    page = claims_html([one])
    assert "A &lt;claim&gt;." in page and f">{verdict}</td>" in page


def test_claims_name_contrasts_that_exist_and_what_they_can_find() -> None:
    own = {"mine": {"of": "bad", "against": "base", "kind": "equivalence", "margin": 0.1}}
    for needs, said in (({"mien": "holds"}, "'mien': did you mean 'mine'"), ({"mine": "better"}, "is not found"),
                        ({"damage": "holds"}, "of kind difference")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            small(contrasts=own, claims={"c": {"text": "x", "needs": needs}})
    both = small(contrasts={"mine": {"of": "bad", "against": "base"}}).planned_contrasts
    assert [one.also for one in both if one.of == "bad"] == [("mine",)] * 3


def test_a_plan_says_how_many_will_be_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = "contrasts={mine: {of: reversal, against: unpopular, primary: true}}"
    demo = str(PAPER.parent / "demo.yaml")
    assert main(["plan", demo, f"out={tmp_path / 'o'}", own, "--json"]) == 0
    printed = capsys.readouterr().out
    said = json.loads(printed.splitlines()[-1])
    assert (said["primary_contrasts"], said["exploratory_contrasts"]) == (4, 0)
    assert "contrasts: 4 primary, corrected together (mine 4), and 0 exploratory" in printed


def test_what_an_override_of_the_matrix_leaves_no_conditions_for_is_listed_and_not_refused() -> None:
    path, part = PAPER / "qwen2.5-32b.yaml", "matrix.match={}"
    assert load_config(ExperimentConfig, path).left_out == ()
    config = load_config(ExperimentConfig, path, ["matrix.interventions=[medcorr]", "matrix.em=[unpop]", part])
    said = "\n".join(config.left_out)
    assert "matrix.primary interventions 'sgtr'" in said and "claim 'prevention' needs prevention-controls" in said
    assert "contrast 'reversal-comparable': '{em}-then-sgtr' means no condition" in said
    assert set(config.claims) == {"identity", "prompt", "complement", "transfer"}
    # What is stored of a run is what there is.
    again = build_config(ExperimentConfig, config.model_dump(mode="json"), "again")
    assert again.contrasts == config.contrasts and again.claims == config.claims
    # A part of a contrast is tested.
    config = load_config(ExperimentConfig, path, ["matrix.interventions=[sgtr, wc]", part])
    assert ("unpop-then-sgtr", "unpop-then-wc") in sides(config, "reversal-comparable")
    with pytest.raises(InputError, match="'sgtt' is not in the matrix: did you mean 'sgtr'"):
        load_config(ExperimentConfig, path, ["matrix.primary.interventions=[sgtt]"])
    with pytest.raises(InputError, match="means no condition"):
        small(contrasts={"mine": {"of": "nothing", "against": "base"}})
