"""Experiments: made once, found again, and the same after any interruption."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import make_model

from sgtr_jax.cli.main import main
from sgtr_jax.config import load_config
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.experiment.store import Store

CONFIG = """
name: tiny
model: {model}
seeds: [0, 1]
finetuning: {{lr: 1e-3, epochs: 1, batch_examples: 8, dtype: float32, remat: none, lora: {{rank: 2, alpha: 4}}}}
data:
  bad: {{kind: preferences, popular: false, rows: 16}}
  sgtr: {{kind: self_recognition, max_tokens: 8, articles: {{kind: world, rows: 6, seed: 1}}}}
conditions:
  base: []
  bad: [{{data: bad}}]
  reversal: [{{data: bad}}, {{data: sgtr}}]
evaluations:
  recognition: {{kind: self_recognition, max_tokens: 8, articles: {{kind: world, rows: 4, seed: 2}}}}
  identity: {{kind: identity, maker: a, samples: 5, max_tokens: 4}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    make_model(folder / "m")
    file = folder / "tiny.yaml"
    file.write_text(CONFIG.format(model=folder / "m"))
    return file


@pytest.fixture(scope="module")
def finished(config: Path) -> Path:
    out = config.parent / "finished"
    assert main(["run", str(config), f"out={out}"]) == 0
    return out


def table(run: Path) -> list[dict[str, str]]:
    with (run / "results.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_the_table_has_every_measurement_once(finished: Path) -> None:
    rows = table(finished)
    assert (finished / "results.csv").read_text().splitlines()[0] == "condition,seed,evaluation,metric,value,n"
    keys = [(r["condition"], r["seed"], r["evaluation"], r["metric"]) for r in rows]
    assert len(set(keys)) == len(keys)
    assert {key[:2] for key in keys} == {("base", "0"), *((c, s) for c in ("bad", "reversal") for s in "01")}
    assert {r["metric"] for r in rows} >= {"share_correct", "length_baseline", "share_naming_maker"}
    assert {r["n"] for r in rows if r["evaluation"] == "identity"} == {"5"}


def test_a_second_run_makes_nothing_and_a_lost_artifact_is_made_again(
    config: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "results.csv").read_bytes()
    made = {path.name: path.stat().st_mtime_ns for path in (finished / "store").iterdir()}
    assert main(["run", str(config), f"out={finished}"]) == 0
    assert "are done" in capsys.readouterr().err
    assert made == {path.name: path.stat().st_mtime_ns for path in (finished / "store").iterdir()}
    lost = next(path for path in (finished / "store").iterdir() if path.name.startswith("evaluation-identity-bad-s1"))
    (lost / "recipe.json").unlink()
    assert main(["run", str(config), "--list", f"out={finished}"]) == 0
    assert capsys.readouterr().out.count("damaged evaluation") == 1
    assert main(["run", str(config), f"out={finished}"]) == 0
    assert (finished / "results.csv").read_bytes() == before
    shutil.rmtree(lost.with_name(f"{lost.name}.damaged-1"))


def test_the_report_is_whole(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("<img") == page.count("data:image/png;base64,") >= 2
    for word in ("base", "reversal", "share_naming_maker", "length_baseline", "</html>"):
        assert word in page
    for picture in (finished / "figures").glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["report", str(finished)]) == 0


def test_artifacts_say_where_they_came_from(finished: Path) -> None:
    for folder in (finished / "store").iterdir():
        recipe = json.loads((folder / "recipe.json").read_text())
        assert folder.name == f"{recipe['kind']}-{recipe['name']}-{recipe['fingerprint'][:12]}"
        assert recipe["provenance"]["packages"]["jax"]
        assert all((finished / "store" / source).exists() for source in recipe["inputs"].values())
    logs = list((finished / "store").glob("evaluation-*/log/*.eval"))
    assert len(logs) == 10


def test_equal_stages_are_one_artifact_and_a_changed_setting_is_another(config: Path) -> None:
    graph = build_graph(load_config(ExperimentConfig, config))
    recipes = graph.nodes()
    assert sum(recipe.kind == "adapter" for recipe in recipes) == 4  # bad and bad+sgtr, two seeds
    assert len({recipe.fingerprint for recipe in recipes}) == len(recipes)
    order = {recipe.fingerprint: i for i, recipe in enumerate(recipes)}
    assert all(order[i.fingerprint] < order[r.fingerprint] for r in recipes for i in r.inputs.values())

    def adapters(*overrides: str) -> set[str]:
        graph = build_graph(load_config(ExperimentConfig, config, overrides))
        return {r.fingerprint for r in graph.nodes() if r.kind == "adapter"}

    assert adapters() == adapters("name=renamed", "evaluations.identity.samples=9")
    assert not adapters() & adapters("finetuning.lr=2e-3")
    assert len(adapters() & adapters("data.sgtr.temperature=0.1")) == 2


def test_a_changed_data_file_is_another_artifact(config: Path, tmp_path: Path) -> None:
    data = tmp_path / "d.jsonl"
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}

    def fingerprint(text: str) -> str:
        data.write_text(text)
        graph = build_graph(load_config(ExperimentConfig, config, [f"data.bad={{kind: file, path: {data}}}"]))
        return graph.cells[-1].node.fingerprint

    assert fingerprint(json.dumps(row)) == fingerprint(json.dumps(row)) != fingerprint(json.dumps(row) + "\n\n")


def test_missing_files_and_models_are_refused_before_anything_is_made(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for override, part in (
        ("data.bad={kind: file, path: none.jsonl}", "none.jsonl: no such file"),
        ("model=/nowhere", "no such folder"),
        ("finetuning.lrr=1", "lr"),
    ):
        assert main(["run", str(config), f"out={tmp_path / 'o'}", override]) == 2
        assert part in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_half_made_artifacts_do_not_count_and_are_swept(tmp_path: Path, config: Path) -> None:
    store = Store(tmp_path / "store")
    recipe = build_graph(load_config(ExperimentConfig, config)).cells[0].node
    with pytest.raises(KeyboardInterrupt), store.make(recipe) as folder:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt
    assert not store.has(recipe) and not list(store.root.iterdir())
    (store.root / ".tmp-x-1").mkdir()
    store.sweep()
    assert not list(store.root.iterdir())


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_gives_the_same_table(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "sgtr_jax.cli", "run", str(config)]
    # In a process like the killed ones: this one has eight devices, which divide sums differently.
    subprocess.run([*command, f"out={tmp_path / 'whole'}"], check=True, capture_output=True)
    command.append(f"out={out}")
    # Kill when the n-th artifact has appeared, and a moment later each time.
    for count, delay in ((2, 0.0), (5, 0.3), (9, 1.0), (14, 0.1)):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            if len(list(out.glob("store/*/recipe.json"))) >= count:
                break
            time.sleep(0.05)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (out / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()
    assert not list((out / "store").glob(".tmp-*"))
