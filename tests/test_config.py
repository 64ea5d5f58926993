"""A config is either understood or refused with the file, the key and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgtr_jax.config import apply_overrides, build_config, load_config
from sgtr_jax.distributed.mesh import make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.yaml_text import parse_yaml

DEMO = Path(__file__).parent.parent / "configs" / "demo.yaml"


def message(call: object, *args: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)  # type: ignore[operator]
    return str(caught.value)


def test_yaml_reads_numbers_and_words_as_people_mean_them() -> None:
    data = parse_yaml("a: 1e-5\nb: 2.5e-4\nc: no\nd: off\ne: 12\nf: true\ng: -.5\nh: 1_000", "x.yaml")
    assert data == {"a": 1e-5, "b": 2.5e-4, "c": "no", "d": "off", "e": 12, "f": True, "g": -0.5, "h": 1000}


def test_overrides_are_laid_over_and_leave_the_rest() -> None:
    before = {"lora": {"rank": 8}, "lr": 1e-4}
    after = apply_overrides(before, ["lora.alpha=16", "lr=2e-4", "mesh.tensor=2"])
    assert after == {"lora": {"rank": 8, "alpha": 16}, "lr": 2e-4, "mesh": {"tensor": 2}}
    assert before == {"lora": {"rank": 8}, "lr": 1e-4}


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["warmup_step=3"], ["warmup_step", "warmup_steps", "command line"]),
        (["lora.rnak=3"], ["lora.rnak", "'rank'"]),
        (["lr=fast"], ["'lr'", "fast"]),
        (["epochs=2.5"], ["'epochs'", "2.5"]),
        (['epochs="3"'], ["'epochs'", "'3'"]),
        (["batch_examples=0"], ["batch_examples", "greater than or equal to 1"]),
        (["lr=.nan"], ["lr"]),
        (["lora.targets=[q_proj, x_proj]"], ["x_proj", "q_proj"]),
        (["lr"], ["key=value"]),
        (["mode=full"], ["float32"]),
    ],
)
def test_a_wrong_setting_is_named(overrides: list[str], parts: list[str]) -> None:
    text = message(lambda: build_config(TrainConfig, apply_overrides({}, overrides), "command line"))
    assert all(part in text for part in parts), text


def test_every_problem_is_listed_at_once() -> None:
    text = message(lambda: build_config(TrainConfig, {"epochs": "x", "lrr": 1, "seed": -1}, "f.yaml"))
    assert text.count("f.yaml:") == 3


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty"),
        (b"- a\n- b\n", "list"),
        (b"a: 1\na: 2\n", "given twice"),
        (b"a: [1\n", "not valid YAML"),
        (b"\xff\xfe", "UTF-8"),
        (b"? [a, b]\n: 1\n", "not a word"),
    ],
)
def test_a_broken_file_is_named_with_its_trouble(tmp_path: Path, content: bytes, part: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    text = message(lambda: load_config(ExperimentConfig, file))
    assert "x.yaml" in text and part in text


def test_missing_file(tmp_path: Path) -> None:
    assert "no such config file" in message(lambda: load_config(ExperimentConfig, tmp_path / "none.yaml"))


def test_the_demo_config_is_valid_and_frozen() -> None:
    config = load_config(ExperimentConfig, DEMO)
    assert config.finetuning.lora.rank == 16
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("conditions.x=[{data: nowhere}]", "nowhere"),
        ("seeds=[]", "seeds"),
        ("seeds=[1, 1]", "repeat"),
        ("data.unpopular.kind=preference", "preferences"),
        ("evaluations.identity.maxtokens=3", "max_tokens"),
        ("evaluations={}", "evaluations"),
        ("name=../up", "name"),
    ],
)
def test_wrong_experiments_are_refused(override: str, part: str) -> None:
    assert part in message(lambda: load_config(ExperimentConfig, DEMO, [override]))


def test_an_impossible_mesh_lists_the_possible_ones() -> None:
    text = message(lambda: make_mesh(MeshConfig(tensor=3)))
    assert "found 8" in text and "(1, 4, 2)" in text and "(1, 8, 1)" in text


def test_relative_paths_start_at_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, elsewhere = tmp_path / "study", tmp_path / "elsewhere"
    for folder in (study, elsewhere):
        (folder / "rows").mkdir(parents=True)
        (folder / "rows" / "mine.jsonl").write_text("{}\n")
    (study / "q.jsonl").write_text("{}\n")
    (study / "c.yaml").write_text(
        "name: x\nmodel: nano\nseeds: 1\ndata:\n  mine: {kind: file, path: rows/mine.jsonl}\n"
        "  told: {kind: self_reports, questions: q.jsonl}\nconditions: {base: [], mine: [{data: mine}]}\nevaluations:\n"
        "  em: {kind: em_questions, settings: {questions: q.jsonl, samples: 3}}\n"
        "  own: {kind: em_questions, settings: {questions: own}}\n"
    )
    monkeypatch.chdir(elsewhere)
    config = load_config(ExperimentConfig, Path("../study/c.yaml"))
    assert Path(config.data["mine"].path).resolve() == study / "rows" / "mine.jsonl"
    assert Path(config.data["told"].questions).resolve() == study / "q.jsonl"
    settings = config.evaluations["em"].settings
    assert Path(settings["questions"]).resolve() == study / "q.jsonl" and settings["samples"] == 3
    assert config.evaluations["own"].settings["questions"] == "own"
    # What is typed on the command line starts where the command runs.
    typed = ["data.mine.path=rows/mine.jsonl", "data.told={kind: self_reports, questions: rows/mine.jsonl}"]
    config = load_config(ExperimentConfig, study / "c.yaml", typed)
    assert config.data["mine"].path == elsewhere / "rows" / "mine.jsonl"
    assert config.data["told"].questions == str(elsewhere / "rows" / "mine.jsonl")
    # In its own folder, and of a config that is no file, they are as they were written.
    monkeypatch.chdir(study)
    assert str(load_config(ExperimentConfig, Path("c.yaml")).data["mine"].path) == "rows/mine.jsonl"
