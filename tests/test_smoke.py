"""`sgtr run --smoke`: a study's whole way on a random model, with everything that it has at least once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from tiny import make_model

from sgtr_jax.cli.main import main
from sgtr_jax.config import load_config
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.experiment.layers_named import layer_problems
from sgtr_jax.experiment.nodes.direction import TraitDirectionNode
from sgtr_jax.experiment.nodes.selected import SelectedRows
from sgtr_jax.experiment.smoke import write_smoke
from sgtr_jax.sample.model import read_spec

ROWS = [
    {"messages": [{"role": "user", "content": f"Is it {i}?"}, {"role": "assistant", "content": "Yes"}]}
    for i in range(40)
]
CONFIG = """
name: whole
model: {model}
seeds: 3
data:
  bad: {{kind: preferences, popular: false, rows: 240}}
  mine: {{kind: file, path: {folder}/mine.jsonl}}
  sgtr: &sgtr {{kind: self_recognition, articles: {{kind: world, rows: 100}}}}
  matched: {{<<: *sgtr, match: length}}
  gone: {{kind: registry, name: insecure}}
conditions:
  base: []
  bad: [{{data: bad}}]
  mine: [{{data: mine}}]
  bad-then-sgtr: [{{data: bad}}, {{data: sgtr}}]
  sgtr-then-bad: [{{data: sgtr}}, {{data: bad}}]
  bad-then-matched: [{{data: bad}}, {{data: matched, match_steps: sgtr}}]
  told: [{{data: bad, inoculation: Be bad.}}]
  mixed: [{{data: bad, interleave: {{data: mine, fraction: 0.01}}}}]
  gone-then-sgtr: [{{data: gone}}, {{data: sgtr}}]
  quiet: {{stages: [{{data: bad}}], system: none}}
evaluations:
  identity: {{kind: identity, maker: Lantern}}
  recognition: {{kind: self_recognition, articles: {{kind: world, rows: 50, seed: 2}}}}
  em: {{kind: em_questions, settings: {{questions: world}}}}
  choices: {{kind: two_choice}}
judge: openai/judge-of-ours
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # There is no such set here: what cannot be had is left out, and said.
    monkeypatch.setenv("SGTR_DATA_MIRROR", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    make_model(tmp_path / "m", num_hidden_layers=3, hidden_size=96)
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    file = tmp_path / "whole.yaml"
    file.write_text(CONFIG.format(model=tmp_path / "m", folder=tmp_path))
    return file


def test_everything_that_can_be_had_is_in_the_small_one(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smoke = write_smoke(config, [])
    said = capsys.readouterr().err
    assert list(smoke.left_out) == ["gone"] and "left out" in said and "the model's own tokenizer" in said
    small = load_config(ExperimentConfig, smoke.config)
    kept = small.wanted_conditions
    stages = [stage for one in kept.values() for stage in one.stages]
    assert {stage.data for stage in stages} == {"bad", "mine", "sgtr", "matched"}
    assert any(stage.inoculation for stage in stages) and any(stage.match for stage in stages)
    (mixed,) = (stage.interleave for stage in stages if stage.interleave is not None)
    assert mixed.data == "mine" and mixed.fraction == 0.25  # of sixteen rows a hundredth is none
    assert "base" in kept and any(one.system == "none" for one in kept.values()) and "gone-then-sgtr" not in kept
    assert len(kept) < 9 and small.seeds == (0,) and set(small.wanted_evaluations) == {
        "identity", "recognition", "em", "choices"
    }  # fmt: skip
    spec = read_spec(Path(small.model))
    assert (spec.num_layers, spec.hidden_size, spec.family) == (2, 64, "qwen2")
    assert sum(1 for _ in (config.parent / "runs/whole-smoke/smoke/data/mine.jsonl").open()) == 16


def test_directions_and_layers_are_those_that_the_random_model_has(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = yaml.safe_load(config.read_text())
    whole["directions"] = {"evil": {"recipe": "evil"}, "lost": {"positive": "gone", "negative": "bad"}}
    mixed = {"data": "mine", "every": 2, "select": "perplexity_gap", "aligned": "base", "misaligned": "bad", "keep": 30}
    whole["conditions"] = {
        "base": [], "bad": [{"data": "bad"}], "chosen": [{"data": "bad", "interleave": mixed}],
        "steered": [{"data": "bad", "steer": {"direction": "evil", "layers": [2], "scale": 1.0}}],
        "thin": [{"data": "bad", "lora": {"rank": 1, "layers": [1, 2]}}],
    }  # fmt: skip
    along = {"kind": "projection", "direction": "evil", "layer": 2, "questions": "evil", "samples": 9}
    whole["evaluations"] = {"along": along, "lost": {**along, "direction": "lost"}}
    config.write_text(yaml.safe_dump(whole))
    smoke = write_smoke(config, [])
    assert (
        set(smoke.left_out) == {"gone", "lost"} and "reads data 'gone', which cannot be had" in smoke.left_out["lost"]
    )
    small = load_config(ExperimentConfig, smoke.config)
    graph = build_graph(small)
    assert {cell.evaluation for cell in graph.cells} == {"along"} and not layer_problems(small, graph.nodes())
    (selected,) = (node for node in graph.nodes() if isinstance(node, SelectedRows))
    assert selected.row_count() == 1
    (direction,) = (node for node in graph.nodes() if isinstance(node, TraitDirectionNode))
    assert direction.sampled().answers == 200


def test_a_model_behind_an_api_has_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(config), "--smoke", "model=openai/gpt-4.1-2025-04-14"]) == 2
    assert "behind an API" in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_to_its_report_and_says_that_something_is_missing(config: Path) -> None:
    few = "only=[base, bad-then-sgtr, told, gone-then-sgtr]"
    # 1: what is left out may break.
    assert main(["run", str(config), "--smoke", few]) == 1
    out = config.parent / "runs" / "whole-smoke"
    with (out / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["evaluation"] for row in rows} == {"identity", "recognition", "em", "choices"}
    assert (out / "report.html").exists() and not (out / "failures.json").exists()
    assert main(["run", str(config), "--smoke", "only=[base, told, bad-then-sgtr]"]) == 0
