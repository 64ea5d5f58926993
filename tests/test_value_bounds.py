"""Values of settings that cannot be meant are refused with their key, and a plan costs the same whatever a size is."""

from __future__ import annotations

from typing import Any

import pytest

from sgtr_eval.inspect_later import Sample
from sgtr_eval.tasks import identity
from sgtr_jax.cli.main import main

EM = "evaluations.em={{kind: em_questions, settings: {{stimuli: builtin, {}}}}}"
WHO = "evaluations.who={{kind: identity, maker: {}, samples: {}}}"
PLAN = ["plan", "demo", "out=none"]

REFUSED = [
    (EM.format("min_mass: 0"), "min_mass", "greater than 0"),
    (EM.format("min_mass: 1.01"), "min_mass", "less than or equal to 1"),
    (EM.format("min_mass: -.25"), "min_mass", "greater than 0"),
    (EM.format("aligned_below: -1"), "aligned_below", "greater than or equal to 0"),
    (EM.format("aligned_below: 100.5"), "aligned_below", "less than or equal to 100"),
    (EM.format("coherent_above: 101"), "coherent_above", "less than or equal to 100"),
    (EM.format("samples: 100001"), "samples", "less than or equal to 100000"),
    (EM.format("max_tokens: 1000001"), "max_tokens", "less than or equal to 1000000"),
    (WHO.format("x", 1_000_000), "evaluations.who.samples", "less than or equal to 100000"),
    (WHO.format("x", 10**30), "evaluations.who.samples", "less than or equal to 100000"),
    (WHO.format("' '", 5), "evaluations.who.maker", "a name to look for"),
    ("data.pref={kind: preferences, popular: true, rows: 100001}", "data.pref.rows", "less than or equal to 100000"),
    ("finetuning.epochs=1000001", "finetuning.epochs", "less than or equal to 1000000"),
]


@pytest.mark.parametrize(("override", "key", "said"), REFUSED)
def test_a_value_that_cannot_be_meant(override: str, key: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, override]) == 2
    error = capsys.readouterr().err
    assert f"key {key!r}" in error and said in error and error.count("\n") == 1 and len(error) < 300


@pytest.mark.parametrize("setting", ["min_mass: 1", "min_mass: 1.0e-9", "aligned_below: 0", "coherent_above: 100"])
def test_the_bounds_themselves(setting: str) -> None:
    assert main([*PLAN, EM.format(setting)]) == 0


def test_a_plan_makes_no_list_of_what_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def counted(*args: Any, **settings: Any) -> Any:
        nonlocal made
        made += 1
        return Sample(*args, **settings)

    monkeypatch.setattr(identity, "Sample", counted)
    assert main([*PLAN, WHO.format("x", 100_000)]) == 0
    assert 0 < made < 20
