"""`sgtr init`: every template loads, names files that it writes, and the first one runs to its table."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest
from tiny import make_model

from sgtr_jax.cli.commands.init import names
from sgtr_jax.cli.main import main, parse
from sgtr_jax.config import load_config
from sgtr_jax.data.records import read_training
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph


def test_the_templates_are_those_that_people_ask_for() -> None:
    assert names() == ["api", "defences", "own-eval", "prevention", "reversal"]


@pytest.mark.parametrize("template", names())
def test_a_template_loads_and_all_it_names_is_there(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine", "--template", template]) == 0
    assert "Next: cd mine && sgtr plan experiment.yaml" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "mine")
    config = load_config(ExperimentConfig, Path("experiment.yaml"))
    assert config.name == template and build_graph(config).cells
    assert len(read_training(Path("unpopular.jsonl"))) == 64
    readme = Path("README.md").read_text()
    for name in re.findall(r"^\| `([\w.-]+)` \|", readme, re.MULTILINE):
        assert Path(name).is_file(), name
    assert {path.name for path in Path.cwd().iterdir()} == {
        *re.findall(r"^\| `([\w.-]+)` \|", readme, re.M),
        "README.md",
    }
    # Commands of the README and of the config's comments are understood.
    lines = re.findall(r"^(?:#  |   ) +?sgtr (.*)$", readme + Path("experiment.yaml").read_text(), re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        assert callable(parse(shlex.split(line, comments=True)).command), line


def test_nothing_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert "has README.md already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("template", ["reversal", "own-eval"])
@pytest.mark.slow
def test_a_template_runs_to_its_table(template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "m")
    assert main(["init", str(tmp_path / "mine"), "--template", template]) == 0
    monkeypatch.chdir(tmp_path / "mine")
    assert main(["run", "experiment.yaml", f"model={tmp_path / 'm'}", "seeds=[0]"]) == 0
    run = Path("runs") / template
    with (run / "results.csv").open() as stream:
        measured = {row["condition"] for row in csv.DictReader(stream)}
    assert measured == set(load_config(ExperimentConfig, Path("experiment.yaml")).conditions)
    assert (run / "report.html").is_file()
