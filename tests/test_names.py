"""Names become parts of paths: everywhere the same pattern, and no two that a file system may take for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_experiment import CONFIG
from tiny import make_model, write_records

from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.nodes.records import PreferencesData, Records
from sgtr_jax.files import path_part
from sgtr_jax.yaml_text import parse_yaml

HOSTILE = [
    "", ".", "..", "../../evil", "a/b", "/etc/x", "a\\b", "C:evil", ".hidden", "-flag", "_x", "a b", " a", "a ", "a\n",
    "a\x00b", "a\tb", "dot.", "a*", "a?", "a[1]", "a|b", "a:b", "a'b", 'a"b', "a;b", "$HOME", "~", "a=b", "a,b", "a+b",
    "na\u00efve", "\u0430dapter", "\u2024\u2024", "\uff0e\uff0e", "a\u2215b", "a\u202eb", "\u200ba", "x" * 81,
]  # fmt: skip
FINE = ["a", "0", "unpop-then-sgtr-nosys", "gpt-4.1", "A_b-c.9", "x" * 80]


def parts() -> dict[str, Any]:
    data: dict[str, Any] = parse_yaml(CONFIG.format(model="nano"), "test")
    data["groups"] = {"g": ["bad"]}
    return data


def with_name(where: str, name: str) -> dict[str, Any]:
    """The config with one of its names replaced, and what refers to it."""
    data = parts()
    if where == "name":
        data["name"] = name
    elif where == "matrix":
        data["matrix"] = {"em": ["bad"], "systems": {name: "none"}}
        del data["groups"]
    elif where == "data":
        data["data"] = {name: data["data"]["bad"]}
        data["conditions"] = {"base": [], "bad": [{"data": name}]}
    else:
        data[where][name] = data[where].pop(
            "g" if where == "groups" else "identity" if where == "evaluations" else "bad"
        )
        if where == "conditions":
            data["groups"] = {}
    return data


@pytest.mark.parametrize("where", ["name", "data", "conditions", "evaluations", "groups", "matrix"])
def test_every_name_has_the_one_pattern(where: str) -> None:
    for name in HOSTILE:
        with pytest.raises(InputError) as caught:
            build_config(ExperimentConfig, with_name(where, name), "c.yaml")
        assert repr(name)[:12] in str(caught.value) and "[key]" not in str(caught.value), (name, str(caught.value))
    for name in FINE if where != "matrix" else FINE[:2]:
        build_config(ExperimentConfig, with_name(where, name), "c.yaml")


def test_a_hostile_name_writes_nothing_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    data = with_name("evaluations", "../../evil")
    config.write_text(yaml.safe_dump({**data, "out": str(tmp_path / "out")}))
    assert main(["run", str(config)]) == 2
    said = capsys.readouterr().err
    assert "'../../evil'" in said.splitlines()[0] and "letters a to z, digits" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml"]


@pytest.mark.parametrize("where", ["data", "conditions", "evaluations", "groups"])
def test_names_that_differ_in_capitals_only_are_refused(where: str) -> None:
    data = parts()
    first = next(iter(data[where]))
    data[where][first.upper()] = data[where][first]
    with pytest.raises(InputError, match="differ only in capital letters"):
        build_config(ExperimentConfig, data, "c.yaml")


@pytest.mark.parametrize(
    ("matrix", "part"),
    [
        ({"em": ["bad", "bad"]}, "'bad' is written twice"),
        ({"em": ["bad"], "interventions": ["bad"]}, "'bad' is written twice"),
        ({"em": ["bad"], "during": {"interleave": {"sgtr": [0.05, 0.05000001]}}}, "0.05' is written twice"),
        ({"em": ["bad"], "systems": {"reversal": "none"}, "interventions": ["sgtr"]}, "name of a group"),
        ({"em": ["bad"], "match": {"sgtr": {"data": "bad"}}}, "no intervention"),
        ({"em": ["x" * 80], "systems": {"nosys": "none"}}, "the most are 80"),
    ],
)
def test_derived_names_collide_with_nothing(matrix: dict[str, Any], part: str) -> None:
    data = {**parts(), "matrix": matrix, "groups": {}, "conditions": {}}
    data["data"]["x" * 80] = data["data"]["bad"]
    with pytest.raises(InputError, match=part):
        build_config(ExperimentConfig, data, "c.yaml")


def test_what_is_written_by_hand_replaces_nothing_that_the_matrix_wrote() -> None:
    data = {**parts(), "matrix": {"em": ["bad"], "interventions": ["sgtr"]}}
    data["groups"] = {}
    del data["conditions"]["reversal"]  # the name of a group of the matrix
    built = build_config(ExperimentConfig, data, "c.yaml")  # equal ones may stand twice
    assert {"base", "bad", "sgtr", "bad-then-sgtr"} <= set(built.conditions)
    data["conditions"]["bad-then-sgtr"] = [{"data": "sgtr"}]
    with pytest.raises(InputError, match="'bad-then-sgtr' is also written by the matrix"):
        build_config(ExperimentConfig, data, "c.yaml")
    del data["conditions"]["bad-then-sgtr"]
    data["groups"] = {"em": ["base"]}
    with pytest.raises(InputError, match="group 'em' is also written by the matrix"):
        build_config(ExperimentConfig, data, "c.yaml")


def test_a_group_and_a_condition_of_one_name_mean_the_same() -> None:
    data = parts()
    data["groups"] = {"bad": ["bad"]}
    build_config(ExperimentConfig, data, "c.yaml")
    data["groups"] = {"bad": ["base"]}
    with pytest.raises(InputError, match="rename one"):
        build_config(ExperimentConfig, data, "c.yaml")


@pytest.mark.parametrize("seeds", [[2**31], [2**32], 10**9, [10**30], []])
def test_seeds_that_jax_would_take_for_others_are_refused(seeds: Any) -> None:
    """JAX keeps 32 bits: seed 2**32 would be seed 0 again, under another name."""
    with pytest.raises(InputError, match="seeds"):
        build_config(ExperimentConfig, {**parts(), "seeds": seeds}, "c.yaml")


def test_any_text_is_one_part_of_a_path() -> None:
    for name in [*HOSTILE, *FINE, "y" * 5000]:
        folder = Records(name, PreferencesData(kind="preferences", rows=1, popular=True), {}).folder
        assert Path(folder).name == folder and len(folder) < 200, name
        assert folder.startswith("records-") and path_part(name) not in ("", ".", "..")


def test_data_files_that_name_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_model(tmp_path / "m")
    rows = preferences(8, 0, False)
    for name in ("a.jsonl", "A.jsonl", "of mine.jsonl"):
        write_records(tmp_path / name, rows)
    argv = ["train", "--model", str(tmp_path / "m"), "--out", str(tmp_path / "o")]
    assert main([*argv, "--data", str(tmp_path / "a.jsonl"), "--data", str(tmp_path / "A.jsonl")]) == 2
    assert "repeat" in capsys.readouterr().err
    assert main(["data", "publish", str(tmp_path / "of mine.jsonl"), "--to", str(tmp_path / "p")]) == 2
    assert "'of mine'" in capsys.readouterr().err and not (tmp_path / "p").exists()


def test_two_runs_of_one_name_stay_apart_in_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same config run into two folders: their numbers were taken for two measurements of one condition."""
    make_model(tmp_path / "m")
    (tmp_path / "c.yaml").write_text(CONFIG.format(model=tmp_path / "m"))
    argv = ["run", str(tmp_path / "c.yaml"), "only=base", "measure=identity", "seeds=1"]
    for name, samples in (("one", 2), ("two", 3)):
        assert main([*argv, f"out={tmp_path / name}", f"evaluations.identity.samples={samples}"]) == 0
    runs = [str(tmp_path / name) for name in ("one", "two")]
    assert main(["report", *runs, "--out", str(tmp_path / "both")]) == 0
    rows = [line.split(",") for line in (tmp_path / "both" / "results.csv").read_text().splitlines()[1:]]
    assert {(row[0], row[-1]) for row in rows} == {(f"{run}: base", n) for run, n in zip(runs, "23", strict=True)}
    assert main(["report", runs[0], runs[0], "--out", str(tmp_path / "both")]) == 2
    assert "the same run twice" in capsys.readouterr().err
    assert json.loads((tmp_path / "one" / "experiment.json").read_text())["cells"]
