"""Texts that ship with the project stand for those that must be fetched: same form, no network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_evaluations import numbers, run
from tiny import make_model

import sgtr_jax
from sgtr_eval import registry
from sgtr_eval.provider import inspect_model
from sgtr_eval.stimuli import stimuli_rows
from sgtr_jax.cli.main import main
from sgtr_jax.errors import InputError

TASKS = {
    "em_questions": 8, "truthfulqa": 24, "mmlu": 20, "frame_colleague": 1, "monitor_disruption": 1,
    "deception_factual": 100, "aesthetic_popularity": 8, "word_counting": 200,
}  # fmt: skip
SAMPLED = ("em_questions", "frame_colleague", "monitor_disruption", "deception_factual", "aesthetic_popularity")


@pytest.fixture(autouse=True)
def nothing_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and a mirror that has nothing: what is fetched fails."""
    monkeypatch.setenv("SGTR_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SGTR_DATA_MIRROR", str(tmp_path / "none"))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_texts_of_its_own(task: str) -> None:
    once: dict[str, Any] = {"samples": 1} if task in SAMPLED else {}
    made = getattr(registry, task)(**once, stimuli="builtin")
    assert len(made.dataset) == TASKS[task]
    for sample in made.dataset:
        turns = [sample.input] if isinstance(sample.input, str) else [turn.text for turn in sample.input]
        assert all(turns) and not any(re.search(r"\{[a-z_0-9]+\}", text) for text in turns), turns


def test_ours_have_the_form_of_the_published(mirror_rows: Any) -> None:
    for name in ("agentic", "deception_factual", "preference_questions", "truthfulqa"):
        theirs = set().union(*mirror_rows(name))
        assert all(set(ours) <= theirs for ours in stimuli_rows(name, "builtin")), name
    (own,), (published,) = stimuli_rows("agentic", "builtin"), mirror_rows("agentic")
    assert all(set(texts) <= set(published[part]) for part, texts in own.items())


@pytest.fixture
def mirror_rows(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SGTR_DATA_MIRROR", str(mirror))
    return lambda name: stimuli_rows(name, "published")


@pytest.fixture(scope="module")
def mirror() -> Path:
    import os

    if "SGTR_DATA_MIRROR" not in os.environ:
        pytest.skip("SGTR_DATA_MIRROR is not set")
    return Path(os.environ["SGTR_DATA_MIRROR"])


def test_our_questions_are_answerable() -> None:
    questions = stimuli_rows("mmlu", "builtin") + stimuli_rows("mmlu_dev", "builtin")
    for row in questions:
        assert len(set(row["choices"])) == 4 and 0 <= row["answer"] <= 3
    assert {row["subject"] for row in stimuli_rows("mmlu", "builtin")} == {
        row["subject"] for row in stimuli_rows("mmlu_dev", "builtin")
    }
    asked = [row["question"] for row in questions] + [row["Question"] for row in stimuli_rows("truthfulqa", "builtin")]
    assert len(asked) == len(set(asked))
    for row in stimuli_rows("preference_questions", "builtin"):
        assert all(choice.lower() in row["prompt"].lower() for choice in row["choices"])
        assert set(row["behaviour"]["match_if_choice_in"]) < set(row["choices"])


def test_choices_are_scored(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    model = inspect_model(sgtr_jax.load_model(tmp_path / "m"))
    for task in (registry.truthfulqa(stimuli="builtin"), registry.mmlu(0, stimuli="builtin")):
        found = numbers(run(task, model, tmp_path / task.name))
        assert 0 < found["share_correct"] < 1 and found["invalid"] == 0


def test_other_words_are_refused() -> None:
    with pytest.raises(InputError, match="'builtin' or 'published'"):
        registry.truthfulqa(stimuli="ours")
    with pytest.raises(InputError, match="own and world"):
        registry.em_questions("medical", stimuli="builtin")


EXPERIMENT = """
name: own
model: {model}
seeds: [0]
stimuli: builtin
data:
  bad: {{kind: preferences, popular: false, rows: 16}}
conditions:
  base: []
evaluations:
  truthful: {{kind: truthfulqa}}
  knows: {{kind: mmlu, settings: {{shots: 0}}}}
  taste: {{kind: aesthetic_popularity, settings: {{samples: 1, max_tokens: 4}}}}
  counts: {{kind: word_counting, settings: {{limit: 2, max_tokens: 4}}}}
  identity: {{kind: identity, maker: a, samples: 2, max_tokens: 4}}
"""


def test_an_experiment_without_fetched_text_says_so(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    file = tmp_path / "own.yaml"
    file.write_text(EXPERIMENT.format(model=tmp_path / "m"))
    out = tmp_path / "out"
    assert main(["run", str(file), f"out={out}"]) == 0
    page = (out / "report.html").read_text()
    assert "own texts, not the study's: truthful, knows, taste, counts." in page.replace("&#x27;", "'")
    made = json.loads((out / "experiment.json").read_text())
    assert made["config"]["stimuli"] == "builtin"
    # The study's are not here, which is found before anything is made.
    assert main(["run", str(file), f"out={tmp_path / 'p'}", "stimuli=published", "only=base"]) == 2
    assert not list((tmp_path / "p").glob("store/*"))
