"""The README and the site say what is so: settings, metrics, files and messages are those of the code."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import inspect_ai
import numpy as np
import pytest
from tiny import make_adapter

from sgtr_eval.described import metrics_of, tasks
from sgtr_jax.config import Config, load_config
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.settings import descriptions, sections_of
from sgtr_jax.sample.folders import resolve_folder
from sgtr_jax.sample.model import read_spec

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
# Pages that exist on the site only, and pages that include a file.
GENERATED = {"commands.md", "config.md", "data-sets.md", "evaluations.md", "files.md"}


@pytest.fixture(scope="module", autouse=True)
def neighbours() -> Any:
    """The modules of docs/ can be imported, as they can when MkDocs runs."""
    sys.path.insert(0, str(DOCS))
    yield
    sys.path.remove(str(DOCS))


def page(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_the_readme_is_short_and_starts_with_what_a_reader_needs() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) < 10_000
    first = text.partition("## ")[0]
    assert all(part in first for part in ("docs/images/report.png", "make demo", "make test"))
    assert (DOCS / "images/report.png").stat().st_size < 200_000


def test_the_readme_s_experiment_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = tmp_path / "mine.yaml"
    file.write_text(block)
    config = load_config(ExperimentConfig, file)
    assert list(config.conditions) == ["base", "mine", "sgtr", "mine-then-sgtr", "sgtr-then-mine"]
    assert len(block.splitlines()) == 12


def test_the_python_of_the_readme_and_of_sampling_runs(tmp_path: Path) -> None:
    spec = read_spec(resolve_folder("nano"))
    make_adapter(tmp_path / "a", spec)
    for name in ("README.md", "docs/how-to/sample.md"):
        (block,) = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
        block = block.replace("Qwen/Qwen2.5-0.5B-Instruct", "nano").replace("runs/x/adapter", str(tmp_path / "a"))
        given = {"tokens": np.array([[1, 5, 9]]), "mask": np.ones((1, 3), bool), "prompts": [[1, 5, 9]]}
        exec(block, {**given, "continuations": [[3, 4]]})


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith("http") and Path(target).name not in GENERATED:
            assert (path.parent / target).exists(), target


def test_every_module_says_what_it_holds() -> None:
    files = page("file_map")
    modules = files.modules()
    text = files.file_map_page()
    assert ROOT / "sgtr_jax/train/loss.py" in modules and ROOT / "tests/test_docs.py" in modules
    for module in modules:
        assert f"| `{module.name}` | {files.first_line(module)} |" in text


def test_the_way_in_the_code_names_files_that_exist() -> None:
    text = (DOCS / "find-your-way.md").read_text()
    picture = (DOCS / "images/rooms.svg").read_text()
    named = re.findall(r"`((?:sgtr_jax|eval|tests|docs|configs)/[\w/.-]+)`", text)
    assert len(named) > 30
    for name in named:
        assert (ROOT / name).exists(), name
    for name in re.findall(r'class="f">([\w/]+\.py)<', picture):
        if name != "tasks/TASK.py":
            assert any((ROOT / folder / name).exists() for folder in ("eval", "eval/sgtr_eval", "sgtr_jax")), name


def test_the_picture_of_the_rooms_is_of_the_rooms_there_are() -> None:
    picture = importlib.import_module("rooms_picture")
    assert (DOCS / "images/rooms.svg").read_text() == picture.picture() + "\n"
    drawn = {title for layer in picture.LAYERS for title, _ in layer}
    ground = {name for _, lines in picture.LAYERS[-1] for line in lines for name in re.split(r",\s*", line)}
    rooms = {path.stem for path in (ROOT / "sgtr_jax").iterdir() if path.stem[0] not in "._" and path.name != "configs"}
    assert drawn | ground == rooms - {"nano", "backends"} | {"eval/sgtr_eval", "the ground"}


def test_messages_of_the_troubleshooting_page_are_those_of_the_program() -> None:
    code = [*(ROOT / "sgtr_jax").rglob("*.py"), *(ROOT / "eval").rglob("*.py"), ROOT / "Makefile"]
    source = "\n".join(path.read_text() for path in code)
    symptoms = re.findall(r"^\| ([^|]*`[^|]*) \|", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(symptoms) > 25
    for symptom in symptoms:
        for message in re.findall(r"`([^`]+)`", symptom):
            assert message in source, message


def test_settings_stand_under_their_yaml_paths() -> None:
    sections = list(sections_of(ExperimentConfig))
    rows = {row.path: row for section in sections for row in section.rows}
    assert {"name", "finetuning.lora.rank", "data.NAME.recipe.rows", "conditions.NAME.stages[].data"} <= set(rows)
    # A default, given under the path that the page names, is understood and changes nothing.
    template = ROOT / "configs/experiments/own_data.yaml"
    given = 0
    # What has a setting that must be given cannot be given one of its others alone.
    incomplete = {path.rpartition(".")[0] for path, row in rows.items() if row.default == "required"}
    for path, row in rows.items():
        if path.rpartition(".")[0] in incomplete:
            continue
        if re.fullmatch(r"(finetuning|judge|api)\..*", path) and row.default not in ("required", "as below"):
            value = row.default.strip("`")
            assert load_config(ExperimentConfig, template, [f"{path}={value}"]), path
            given += 1
    assert given > 40


def test_every_setting_has_a_description(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = page("settings_page")
    assert (
        "| `finetuning.lora.rank` | `int` | `32` | The rank of the adapter's two matrices. |"
        in settings.settings_page()
    )
    monkeypatch.setattr(settings, "roots", lambda: {"train": Undescribed})
    with pytest.raises(settings.Undescribed, match=r"Undescribed: part\.size$"):
        settings.settings_page()


class Part(Config):
    """A config with a setting that says nothing of itself."""

    size: int
    # What it is called,
    # by people.
    name: str = "x"


class Undescribed(Config):
    """The root of it."""

    part: Part  # A part.


def test_comments_beside_and_above_a_field_describe_it() -> None:
    assert descriptions(Part) == {"name": "What it is called, by people."}


def test_every_argument_of_an_evaluation_is_described() -> None:
    text = page("evaluations_page").evaluations_page()
    assert "| **`rate_all`** |" in text and "| `judge_mode` | `null` |" in text


def files_of(folder: Path) -> dict[str, str]:
    """Four articles with summaries by two writers."""
    texts = {f"a{i}": f"text {i} of some words" for i in range(4)}
    written = {
        "articles": texts,
        "own": dict.fromkeys(texts, "short one"),
        "other": dict.fromkeys(texts, "longer than it"),
    }
    for name, rows in written.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return {name: str(folder / f"{name}.json") for name in written}


ONCE: dict[str, Any] = {"samples": 1, "stimuli": "builtin"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "em_questions": {**ONCE, "judge_mode": "text"},
    "truthfulqa": {"stimuli": "builtin", "limit": 2},
    "mmlu": {"stimuli": "builtin", "limit_per_subject": 1},
    "frame_colleague": ONCE,
    "monitor_disruption": ONCE,
    "deception_factual": ONCE,
    "word_counting": {"stimuli": "builtin", "limit": 2},
    "aesthetic_popularity": ONCE,
    "identity": {"maker": "qwen", "samples": 2, "judge": True},
    "two_choice": {},
    "questions": {"samples": 1, "scale": "choices", "choices": ["good", "bad"]},
    "self_recognition": {},
    "self_recognition_individual": {},
    "summarise": {},
}


def test_the_metrics_of_the_page_are_those_of_the_logs(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"id": "q", "prompt": "A or B?", "correct": "A"}\n')
    (tmp_path / "asked.jsonl").write_text('{"prompt": "Tea?"}\n')
    (tmp_path / "rubric.md").write_text("{question} {answer}")
    asked = {"file": str(tmp_path / "asked.jsonl"), "rubric": str(tmp_path / "rubric.md")}
    own = {
        "questions": asked,
        "two_choice": {"questions": str(questions)}, "self_recognition": files, "self_recognition_individual": files,
        "summarise": {"articles": files["articles"]},
    }  # fmt: skip
    assert set(ARGUMENTS) == set(tasks())
    built = [task(**ARGUMENTS[name], **own.get(name, {})) for name, task in tasks().items()]
    # The demo's rule answers and judges: no weights are needed for the names of metrics.
    logs = inspect_ai.eval(
        built, model="world/rule", model_roles={"grader": "world/rule"}, log_dir=str(tmp_path / "logs"), display="none",
        log_level="error",
    )  # fmt: skip
    for name, log in zip(tasks(), logs, strict=True):
        assert log.status == "success", f"{name}: {log.error}"
        described = set(metrics_of(name))
        patterns = [re.sub(r"[A-Z]+", ".+", metric) for metric in described if re.search("[A-Z]", metric)]
        found = {metric for score in (log.results.scores if log.results else []) for metric in score.metrics}
        assert {one for one in described if not re.search("[A-Z]", one)} <= found, name
        undescribed = {one for one in found - described if not any(re.fullmatch(p, one) for p in patterns)}
        assert not undescribed, name
