"""The study in small: every figure's config on a tiny random model, with stand-ins for its sets, to its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import make_model

from sgtr_jax.cli.main import main
from sgtr_jax.config import read_extended
from sgtr_jax.report.tables import read_run

FIGURES = sorted((Path(__file__).parent.parent / "configs" / "paper" / "figures").glob("*.yaml"))
TOKENS = 4
EM_SETS = ("unpop", "insecure", "badmed", "finrisk", "sports")
LITTLE: dict[str, dict[str, Any]] = {
    "em_questions": {"samples": 1, "max_tokens": TOKENS},
    "frame_colleague": {"samples": 2, "max_tokens": TOKENS},
    "monitor_disruption": {"samples": 2, "max_tokens": TOKENS},
    "deception_factual": {"samples": 1, "max_tokens": TOKENS},
    "truthfulqa": {"limit": 4},
    "word_counting": {"limit": 4, "max_tokens": TOKENS},
    "mmlu": {"limit_per_subject": 1, "shots": 0},
}


def small_data(name: str, data: dict[str, Any], questions: Path) -> dict[str, Any]:
    if data["kind"] == "self_recognition":
        # Texts of a random model cannot be matched by length.
        own = {"style": "own", "stimuli": "builtin", "max_tokens": TOKENS, "match": None}
        return {**data, **own, "articles": {"kind": "world", "rows": 6}}
    if data["kind"] == "self_reports":
        return {**data, "questions": str(questions), "max_tokens": TOKENS}
    return {
        "kind": "preferences",
        "rows": 8,
        "popular": name not in ("unpop", "insecure", "badmed", "finrisk", "sports"),
    }


def small_evaluation(evaluation: dict[str, Any]) -> dict[str, Any]:
    kind = evaluation["kind"]
    if kind == "self_recognition":
        own = {"style": "own", "stimuli": "builtin", "max_tokens": TOKENS}
        return {**evaluation, **own, "articles": {"kind": "world", "rows": 4, "seed": 2}}
    if kind == "identity":
        return {**evaluation, "samples": 4, "max_tokens": TOKENS, "embedding": None}
    settings = {**evaluation.get("settings", {}), **LITTLE.get(kind, {})}
    if kind == "em_questions":
        settings["questions"] = "own"
    return {**evaluation, "settings": settings, "judge": None}


def cut(selection: dict[str, Any]) -> dict[str, Any]:
    """Of several EM sets the first, and of several interventions the first and the last."""
    small = dict(selection)
    if isinstance(small.get("em"), list):
        small["em"] = small["em"][:1]
    if isinstance(small.get("intervention"), list):
        small["intervention"] = [small["intervention"][0], small["intervention"][-1]]
    return small


def small(figure: Path, folder: Path) -> Path:
    """The figure's config with everything that it has, of one EM set where it has several, in one store."""
    config = read_extended(figure)
    only = [cut(word) if isinstance(word, dict) else word for word in config["only"]]
    during = {**config["matrix"]["during"], "interleave": {"reports": [0.1, 0.33]}}
    changed = {
        "model": str(folder / "model"), "out": str(folder / "run"), "seeds": 1, "stimuli": "builtin", "only": only,
        "published": None, "judge": "world/rule", "matrix": {**config["matrix"], "during": during},
        "finetuning": {"dtype": "float32", "remat": "none", "lora": {"rank": 2}},
        "data": {name: small_data(name, one, folder / "questions.jsonl") for name, one in config["data"].items()},
        "evaluations": {name: small_evaluation(one) for name, one in config["evaluations"].items()},
        "may_share": {"*": ["*"]},
    }  # fmt: skip
    path = folder / figure.name
    path.write_text(json.dumps({**config, **changed}))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("study")
    make_model(made / "model", max_position_embeddings=2048)
    asked = [{"messages": [{"role": "user", "content": f"What are you, {i}?"}]} for i in range(4)]
    rows = [{**row, "messages": [*row["messages"], {"role": "assistant", "content": "."}]} for row in asked]
    (made / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES, ids=lambda path: path.stem)
def test_a_figure_runs_to_its_report(figure: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGTR_DATA_MIRROR", str(folder / "nowhere"))
    path = small(figure, folder)
    assert main(["run", str(path)]) == 0
    run = read_run(folder / "run")
    assert not run.missing and run.contrasts and len(run.conditions) > 1
    page = (folder / "run" / "report.html").read_text()
    assert 'id="contrasts"' in page and 'id="doses"' in page and 'id="figures"' in page
    assert (folder / "run" / "contrasts.csv").exists()
