"""Every config that ships is valid, names data that exist, and gives the graph it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import make_model

from sgtr_jax.config import load_config
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.report.published import published_numbers

ROOT = Path(__file__).parent.parent / "configs"
SHIPPED = sorted(
    path
    for path in [
        *ROOT.glob("*.yaml"),
        *(path for name in ("paper", "experiments", "defences") for path in (ROOT / name).rglob("*.yaml")),
    ]
    if path.name not in ("prices.yaml", "study.yaml")
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("m") / "m"
    make_model(folder)
    return folder


# The whole studies have tens of thousands of nodes.
MARKED = [pytest.param(path, marks=pytest.mark.slow) if path.parent.name == "paper" else path for path in SHIPPED]


@pytest.mark.parametrize("path", MARKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_builds(path: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    Path("my_data.jsonl").write_text(json.dumps(row))  # the template's own data
    keeps_its_own = path.name in ("demo.yaml", "gpt-4.1.yaml")
    overrides = [] if keeps_its_own else [f"model={model}"]
    if path.name == "own_data.yaml":
        overrides.append("data.mine.path=my_data.jsonl")
    config = load_config(ExperimentConfig, path, overrides)
    graph = build_graph(config)
    assert graph.cells and config.base_condition is not None
    if config.published is not None:
        assert config.published in published_numbers()["models"]


def test_the_study_has_every_axis(model: Path) -> None:
    config = load_config(ExperimentConfig, ROOT / "paper" / "qwen2.5-32b.yaml", [f"model={model}"])
    names = set(config.conditions)
    assert {"base", "base-nosys", "unpop-then-sgtr", "sgtr-then-unpop", "unpop-with-reports-0.33"} <= names
    assert {"unpop-inoculated", "unpop-inoculated-with-reports-0.33", "random-then-badmed", "reports_unpop"} <= names
    assert len(config.groups["reversal"]) == len(config.groups["prevention"]) == 2 * 5 * 14
    assert config.seeds == (0, 1, 2, 3, 4) and config.evaluations["identity"].kind == "identity"
    # Published numbers of conditions that the study's config does not have would never be shown.
    tables = published_numbers()["models"]["qwen2.5-32b"]
    for evaluation, table in tables.items():
        assert evaluation in config.evaluations
        absent = {name for name in table["rows"] if name not in names and "fincorr" not in name}
        assert not {name for name in absent if "qwensys" not in name or name.split("_")[0] == "sgtr"}, absent


@pytest.mark.slow
def test_a_part_is_made_of_the_same_artifacts(model: Path) -> None:
    path, own = ROOT / "paper" / "qwen2.5-32b.yaml", f"model={model}"
    whole = {r.folder for r in build_graph(load_config(ExperimentConfig, path, [own])).nodes()}
    words = [own, "only=[reversal]", "measure=truthfulqa", "seeds=[0]"]
    part = build_graph(load_config(ExperimentConfig, path, words))
    assert {r.folder for r in part.nodes()} < whole
    assert {c.seed for c in part.cells} == {0} and {c.evaluation for c in part.cells} == {"truthfulqa"}
    reversal, made = set(part.config.groups["reversal"]), {c.condition for c in part.cells}
    # Besides, what they are compared with: the base model, and models with the EM set alone.
    assert reversal < made and all(len(part.config.conditions[name].stages) <= 1 for name in made - reversal)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("only=reversl", "reversal"),
        ("measure=truthfulq", "truthfulqa"),
        ("matrix.em=[unpopp]", "unpopp"),
        ("only={em: unpopp}", "no condition has em 'unpopp': did you mean 'unpop'"),
        ("only={system: nosy}", "no condition has system 'nosy': did you mean 'nosys'"),
        ("only={em: unpop, order: base}", "no condition has order base, em unpop, system default"),
        ("only={em: unpop, arm: nosys}", "unknown key"),
        ("only={order: reversl}", "reversal"),
        ("matrix.systems={default: none}", "own system prompt; rename"),
        ("groups={mine: [unpopp]}", "unpopp"),
        ("seeds=0", "seeds"),
        ("seeds=true", "seeds"),
        ("matrix.during.interleave={reports: [1.5]}", "1.5"),
    ],
)
def test_what_does_not_exist_is_named(override: str, said: str, model: Path) -> None:
    with pytest.raises(InputError, match=said):
        load_config(ExperimentConfig, ROOT / "paper" / "qwen2.5-32b.yaml", [f"model={model}", override])


FIGURES = sorted((ROOT / "paper" / "figures").glob("*.yaml"))


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_every_condition_of_a_figure_has_its_baselines_and_one_system_prompt_if_not_asked_for(path: Path) -> None:
    config = load_config(ExperimentConfig, path)
    wanted = config.wanted_conditions
    arms = {condition.axes.system for condition in wanted.values() if condition.axes is not None}
    assert arms == ({"default", "nosys"} if path.stem == "system_prompts" else {"default"})
    for name, condition in wanted.items():
        if not (condition.stages and condition.axes):
            continue
        suffix = "" if condition.axes.system == "default" else f"-{condition.axes.system}"
        below = {"em": "base", "intervention": "base"}.get(condition.axes.order, condition.axes.em)
        assert f"{below}{suffix}" in wanted, name
        compared = {one.against for one in config.planned_contrasts if one.of == name}
        assert f"{below}{suffix}" in compared, name


def test_conditions_are_chosen_by_axes(model: Path) -> None:
    def kept(*only: str) -> list[str]:
        words = [f"model={model}", f"only=[{', '.join(only)}]", "contrasts={}", "claims={}"]
        return list(load_config(ExperimentConfig, ROOT / "paper" / "seed-oss-36b.yaml", words).wanted_conditions)

    assert kept("{em: unpop, intervention: [sgtr, wc], order: prevention}") == [
        "base", "unpop", "sgtr-then-unpop", "wc-then-unpop"
    ]  # fmt: skip
    assert kept("{em: unpop, order: em, system: nobudget}") == ["base-nobudget", "unpop-nobudget"]
    assert set(kept("{em: badmed, intervention: popular, order: during}")) == {
        "base", "badmed", "badmed-inoculated",
        *(f"badmed{how}-with-popular-{share}" for how in ("", "-inoculated") for share in (0.1, 0.33)),
    }  # fmt: skip


def test_extending(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(InputError, match="extends"):
        load_config(ExperimentConfig, tmp_path / "a.yaml")
    (tmp_path / "c.yaml").write_text("extends: nowhere.yaml\n")
    with pytest.raises(InputError, match="nowhere"):
        load_config(ExperimentConfig, tmp_path / "c.yaml")


def test_sets_of_the_registry_can_be_cut(tmp_path: Path) -> None:
    def node(*words: str) -> Any:
        graph = build_graph(load_config(ExperimentConfig, ROOT / "experiments" / "dose.yaml", ["model=nano", *words]))
        return next(one for one in graph.nodes() if one.kind == "records" and one.name == "unpop")

    whole, part = node(), node("data.unpop.rows=200")
    assert "rows" not in whole.settings and part.settings["rows"] == 200 and whole.fingerprint != part.fingerprint
    assert (whole.row_count(), part.row_count()) == (5000, 200)
    assert [record.id for record in part.config.read()[0]] == [r.id for r in whole.config.read()[0]][:200]
    with pytest.raises(InputError, match="'unpop' has 5000 rows; rows is 5001"):
        node("data.unpop.rows=5001")


def test_all_sources_that_are_missing_are_named_at_once(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "{name: c, model: nano, seeds: 1, data: {a: {kind: file, path: a.jsonl}, b: {kind: registry, name: unpopp}},\n"
        "matrix: {em: [a], interventions: [b]}, evaluations: {q: {kind: two_choice, questions: q.jsonl}}}"
    )
    with pytest.raises(InputError) as error:
        build_graph(load_config(ExperimentConfig, config))
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["data 'a'", "data 'b'", "evaluation 'q'"]


def test_a_matrix_without_a_condition_that_data_are_written_by_says_what_to_set(model: Path) -> None:
    path, words = ROOT / "paper" / "qwen2.5-32b.yaml", [f"model={model}", "matrix.em=[badmed]"]
    with pytest.raises(
        InputError, match=r"data 'reports_unpop' is written by the model of condition 'unpop'"
    ) as refused:
        load_config(ExperimentConfig, path, words)
    for said in ("conditions.unpop=[{data: SET}]", "matrix.em", "data.reports_unpop.condition=NAME"):
        assert said in str(refused.value)
    for fix in ("conditions.unpop=[{data: unpop}]", "data.reports_unpop.condition=badmed"):
        assert "badmed-then-sgtr" in load_config(ExperimentConfig, path, [*words, fix]).conditions
