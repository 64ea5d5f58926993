"""Experiments that ship are found by their names; a path is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgtr_jax.cli.main import main, parse

SHIPPED = Path(__file__).parent.parent / "configs"


def test_a_name_is_the_experiment_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse(["run", "demo"]).config.samefile(SHIPPED / "demo.yaml")
    assert parse(["plan", "paper/qwen2.5-32b"]).config.samefile(SHIPPED / "paper" / "qwen2.5-32b.yaml")


def test_a_file_that_is_there_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("name: mine\n")
    assert parse(["run", "demo"]).config == Path("demo")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("demmo", "no experiment of this name ships with sgtr-jax: did you mean 'demo'?"),
        ("configs/demo.yaml", "no such file here; the experiment that ships with sgtr-jax is called demo"),
        ("datasets/em", "datasets/em: no such file"),
        ("nope.yaml", "nope.yaml: no such config file"),
    ],
)
def test_what_is_not_there_is_said(
    given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main(["run", given, "--list"]))
    assert end.value.code == 2
    assert said in capsys.readouterr().err
