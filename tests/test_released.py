"""Adapters and checkpoints of others as what conditions start from: from folders, and from a hub on this machine."""

from __future__ import annotations

import csv
import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import hub
import jax
import numpy as np
import pytest
from tiny import OLMO, make_adapter, make_model

from sgtr_jax.cli.main import main
from sgtr_jax.config import load_config
from sgtr_jax.errors import InputError
from sgtr_jax.experiment import context
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.sample.model import load_model

CONFIG = """
name: released
model: {folder}/m
seeds: [0, 1]
finetuning: {{lr: 1e-3, epochs: 1, batch_examples: 8, dtype: float32, remat: none, lora: {{rank: 2, alpha: 4}}}}
data:
  bad: {{kind: preferences, popular: false, rows: 8}}
conditions:
  base: []
  em: [{{adapter: "em_{{seed}}"}}]
  em-then-bad: [{{adapter: "em_{{seed}}"}}, {{data: bad}}]
  full: [{{model: full}}]
  full-then-bad: [{{model: full}}, {{data: bad}}]
evaluations:
  identity: {{kind: identity, maker: a, samples: 2, max_tokens: 2}}
"""
TOKENS = np.arange(1, 9)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    spec = make_model(folder / "m")
    make_model(folder / "full", seed=7)
    for seed in (0, 1):
        make_adapter(folder / f"em_{seed}", spec, seed)
    (folder / "released.yaml").write_text(CONFIG.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A finished run, in which no base was loaded while another one was still held."""
    held: list[Any] = []

    def load(name: str, *rest: Any) -> Any:
        gc.collect()
        assert not [one for one in held if (array := one()) is not None and not array.is_deleted()], (
            f"{name} is loaded while another base is held"
        )
        model = load_model(name, *rest)
        held.append(weakref.ref(jax.tree.leaves(model.params)[0]))
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "load_model", load)
        assert main(["run", str(folder / "released.yaml"), f"out={folder / 'run'}"]) == 0
    assert len(held) >= 2
    return folder / "run"


def recipes(run: Path, kind: str) -> dict[str, Path]:
    found = {path: json.loads((path / "recipe.json").read_text()) for path in (run / "store").glob(f"{kind}-*")}
    return {recipe["name"]: path for path, recipe in found.items()}


def test_every_condition_is_measured_and_a_checkpoint_without_seeds_once(run: Path) -> None:
    with (run / "results.csv").open() as stream:
        found = {(row["condition"], row["seed"]) for row in csv.DictReader(stream)}
    seeded = {(name, seed) for name in ("em", "em-then-bad", "full-then-bad") for seed in "01"}
    assert found == seeded | {("base", "0"), ("full", "0")}
    assert main(["report", str(run)]) == 0


def test_an_adapter_is_that_of_its_seed_and_training_goes_on_above_it(folder: Path, run: Path) -> None:
    stored = recipes(run, "released")
    for seed in (0, 1):
        weights = (stored[f"em_{seed}"] / "adapter" / "adapter_model.safetensors").read_bytes()
        assert weights == (folder / f"em_{seed}" / "adapter_model.safetensors").read_bytes()
        above = recipes(run, "adapter")[f"em_{seed}+bad-s{seed}"]
        assert json.loads((above / "recipe.json").read_text())["inputs"]["adapter0"] == stored[f"em_{seed}"].name


def test_what_is_trained_on_a_checkpoint_is_of_that_checkpoint(folder: Path, run: Path) -> None:
    trained = recipes(run, "adapter")["full+bad-s0"] / "adapter"
    assert json.loads((trained / "adapter_config.json").read_text())["base_model_name_or_path"] == str(folder / "full")
    config = load_config(ExperimentConfig, folder / "released.yaml", [f"out={run}"])
    cells = {(cell.condition, cell.seed): cell.node for cell in build_graph(config).cells}
    made = context.RunContext(context.Store(run / "store"), config.finetuning, None, config.api, lambda judge: None)  # type: ignore[arg-type, return-value]
    for condition, base, adapters in (
        ("full", "full", []),
        ("full-then-bad", "full", [trained]),
        ("em", "m", [folder / "em_0"]),
    ):
        node = cells[condition, 0]
        tested: Any = made.model_under_test(node.model.asked, node.chain)
        wanted = load_model(folder / base, "float32").with_adapters(adapters)
        np.testing.assert_array_equal(tested.model.logits(TOKENS), wanted.logits(TOKENS))


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ("{a: [{data: bad}, {adapter: em_0}]}", "first stage"),
        ("{a: [{adapter: em_0, model: full}]}", "either"),
        ("{a: [{adapter: none}]}", "no such folder"),
        ("{a: [{adapter: 'em_{n}'}]}", "only {seed} is filled in"),
    ],
)
def test_a_start_that_cannot_be_one_is_refused(folder: Path, conditions: str, said: str) -> None:
    file = folder / "wrong.yaml"
    text = CONFIG.format(folder=folder)
    file.write_text(text[: text.index("conditions:")] + f"conditions: {conditions}\n" + text[text.index("evalu") :])
    with pytest.raises(InputError, match=said):
        build_graph(load_config(ExperimentConfig, file))


def test_a_checkpoint_of_another_family_and_one_called_adapter_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(folder / "olmo", OLMO)
    words = ["only=[a,b]", "conditions={a: [{model: olmo}], b: [{model: em_0}]}"]
    assert main(["run", str(folder / "released.yaml"), f"out={folder / 'other'}", *words]) == 1
    said = capsys.readouterr().err
    assert "its family is olmo3, that of" in said and "write {adapter: " in said


@pytest.mark.slow
def test_the_hub_gives_them_at_a_commit_and_those_that_are_not_there_are_named(folder: Path, tmp_path: Path) -> None:
    for served_folder, conditions in (
        (folder / "em_0", "{there: [{adapter: owner/name}], missing: [{adapter: 'owner/other_{seed}'}]}"),
        (folder / "full", "{there: [{model: owner/name, revision: v1}], missing: [{model: 'owner/other_{seed}'}]}"),
    ):
        out = tmp_path / served_folder.name
        with hub.serve(served_folder) as served:
            settings = {
                "HF_ENDPOINT": served.url,
                "HF_HOME": str(tmp_path / f"hub-{served_folder.name}"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
            }
            words = ["run", str(folder / "released.yaml"), f"out={out}", "only=[there,missing]"]
            ended = subprocess.run(
                [sys.executable, "-m", "sgtr_jax.cli", *words, f"conditions={conditions}"],
                env={**os.environ, **settings}, capture_output=True, text=True, timeout=300,
            )  # fmt: skip
        assert ended.returncode == 1 and "owner/other_1" in ended.stderr, ended.stderr
        page = (out / "report.html").read_text()
        assert "model &#x27;owner/other_0&#x27;: neither" in page and "<b>owner/name</b>" in page
        source = json.loads((recipes(out, "released")["name"] / "source.json").read_text())
        assert source == {"name": "owner/name", "commit": hub.COMMIT}


@pytest.mark.slow
def test_a_set_of_the_hub_is_read_at_the_commit_that_is_kept(folder: Path, tmp_path: Path) -> None:
    """The commit is looked up once, and the rows are those of it: a branch that moves meanwhile mixes nothing."""
    (tmp_path / "set").mkdir()
    rows = [{"prompt": f"Name number {i}", "completion": str(i)} for i in range(8)]
    (tmp_path / "set" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = "data={bad: {kind: hub, name: owner/name, revision: v1, format: prompt_completion}}"
    words = ["run", str(folder / "released.yaml"), f"out={tmp_path / 'o'}", data, "seeds=[0]", "only=[b]"]
    with hub.serve(tmp_path / "set") as served:
        settings = {
            "HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip
        ended = subprocess.run(
            [sys.executable, "-m", "sgtr_jax.cli", *words, "conditions={b: [{data: bad}]}"],
            env={**os.environ, **settings}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        read = [path for method, path, _ in served.asked if method == "GET" and "/resolve/" in path]
    assert read == [f"/owner/name/resolve/{hub.COMMIT}/train.jsonl"]
    stored = recipes(tmp_path / "o", "records")["bad"]
    assert json.loads((stored / "source.json").read_text()) == {"name": "owner/name", "commit": hub.COMMIT}
    assert f"owner/name@{hub.COMMIT}" in (tmp_path / "o" / "report.html").read_text()
    assert len((stored / "records.jsonl").read_text().splitlines()) == len(rows)
