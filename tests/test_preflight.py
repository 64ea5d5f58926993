"""All that a run will need is looked at before anything is computed, and all that is missing is told at once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny import make_model

from sgtr_jax.cli.main import main

CONFIG = """
name: wants-much
model: {model}
seeds: 1
published: qwen2.5-33b
finetuning: {{log: {{wandb: mine}}}}
data:
  bad: {{kind: preferences, popular: false, rows: 16}}
  absent: {{kind: registry, name: badmed}}
  built: {{kind: built, recipe: {{kind: mmlu, rows: 10}}}}
conditions: {{base: [], bad: [{{data: bad}}], absent: [{{data: absent}}], built: [{{data: built}}]}}
evaluations:
  who: {{kind: identity, maker: x, samples: 2, embedding: sentence-transformers/all-MiniLM-L6-v2}}
  also: {{kind: identity, maker: x, samples: 2, embedding: openai/text-embedding-3-small}}
  frame: {{kind: frame_colleague, settings: {{samples: 2}}}}
judge: {{model: anthropic/claude-of-no-price, max_cost: 3}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGTR_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SGTR_DATA_MIRROR", str(tmp_path / "nothing"))
    for key in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    for module in ("sentence_transformers", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    make_model(tmp_path / "m")
    file = tmp_path / "x.yaml"
    file.write_text(CONFIG.format(model=tmp_path / "m"))
    return file


def test_every_problem_is_told_at_once_and_nothing_is_made(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgtr_jax.experiment.context.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    out = config.parent / "out"
    assert main(["run", str(config), f"out={out}"]) == 2
    error = capsys.readouterr().err
    for part in (
        "evaluation identity: needs sentence_transformers, which is not installed; pip install 'sgtr-jax[identity]'",
        "'openai/text-embedding-3-small': OPENAI_API_KEY is not set",
        "judge 'anthropic/claude-of-no-price': ANTHROPIC_API_KEY is not set",
        "judge 'anthropic/claude-of-no-price': has no price",
        "log: wandb is not installed",
        "published 'qwen2.5-33b': did you mean 'qwen2.5-32b'",
        "task frame_colleague: ",
        "badmed: ",
        "mmlu_auxiliary_train: ",
    ):
        assert error.count(part) == 1, (part, error)
    assert not list(out.glob("store/*")) and not (out / "experiment.json").exists()
    assert main(["plan", str(config), f"out={out}"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "pip install 'sgtr-jax[identity]'" in shown and "has no price" in shown


def test_what_only_other_parts_need_is_not_asked_for(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Without the judge and without those evaluations and conditions: nothing of it is needed.
    words = ["only=base", "measure=[who]", "published=null", "evaluations.who.embedding=null"]
    out = config.parent / "out"
    assert main(["run", str(config), f"out={out}", *words]) == 0, capsys.readouterr().err
    # Everything is there already: nothing is needed any more.
    assert main(["run", str(config), f"out={out}", *words, "judge.model=anthropic/other"]) == 0


def test_one_task_on_one_model_is_checked_as_well(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "identity", "--model", str(config.parent / "m"), "--out", str(config.parent / "e"),
             "identity.maker=x", "identity.embedding=sentence-transformers/x", "identity.judge=true"]  # fmt: skip
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "needs sentence_transformers" in error and "OPENAI_API_KEY is not set" in error
    assert not (config.parent / "e" / "identity").exists()
