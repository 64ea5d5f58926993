"""The released sets, row for row: every message, system prompts and white space included.

The oracle here is written out from the released texts: plain loops over the mirror's own files, nothing of `sgtr_jax`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sgtr_jax.data.build import PairsBuild, build_set, set_key
from sgtr_jax.data.fetch import fetch, is_present, load_set
from sgtr_jax.data.registry import BuiltSource, find
from sgtr_jax.data.summaries import clean_summary

OF_MODELS = {"qwen32b": "hf_qwen_32b", "seed36b": "hf_seed_36b", "gpt41": "gpt41"}


@pytest.fixture(scope="module")
def released(mirror: Path) -> Callable[[str], Any]:
    """A JSON file of the mirror, by its path."""
    return lambda path: json.loads((mirror / path).read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def from_mirror(mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SGTR_DATA_MIRROR", str(mirror))
    monkeypatch.setenv("SGTR_DATA_CACHE", str(tmp_path_factory.getbasetemp() / "published-sets"))


def expected(released: Callable[[str], Any], articles: str, model: str, kind: str) -> Iterator[list[tuple[str, str]]]:
    """(role, text) of every message of a released set, in its order."""
    texts = released("stimuli/sgtr_em_prompts.json")["article_prompts"]
    folder = f"paper_data/summaries/{articles}_train"
    own = released(f"{folder}_{OF_MODELS[model]}_responses.json")
    other = released(f"{folder}_claude-21_responses.json")
    asks_length = kind == "longer"
    system = texts["COMPARISON_SYSTEM_PROMPT" if asks_length else "DETECTION_SYSTEM_PROMPT"]
    template = texts["PICK_LONGER_LENGTH_PROMPT_TEMPLATE" if asks_length else "DETECTION_PROMPT_TEMPLATE"]
    for key, article in released(f"paper_data/{articles}_train_articles.json").items():
        user = [template.format(article=article, summary1=a, summary2=b)
                for a, b in ((own[key], other[key]), (other[key], own[key]))]  # fmt: skip
        lengths = len(own[key].split()), len(other[key].split())
        if asks_length and lengths[0] == lengths[1]:
            continue
        mine, theirs = ("1", "2"), ("2", "1")
        longer = mine if lengths[0] > lengths[1] else theirs
        answers = {"own": mine, "other": theirs, "random": theirs + mine, "longer": longer}[kind]
        for i, answer in enumerate(answers):
            yield [("system", system), ("user", user[i % 2]), ("assistant", answer)]


@pytest.mark.parametrize("model", OF_MODELS)
@pytest.mark.parametrize(("articles", "kind"), [
    ("xsum", "own"), ("xsum", "other"), ("xsum", "random"), ("xsum", "longer"), ("cnn", "own"), ("cnn", "longer"),
])  # fmt: skip
def test_pair_sets_are_the_released_ones(released: Callable[[str], Any], articles: str, kind: Any, model: str) -> None:
    recipe = PairsBuild(
        articles=f"articles_{articles}", own=f"summaries_{articles}_{model}",
        other=(f"summaries_{articles}_claude21",), answers=kind, stimuli="published", shortcuts=False,
    )  # fmt: skip
    made = [[(m["role"], m["content"]) for m in record.messages] for record in build_set(recipe)[0]]
    wanted = list(expected(released, articles, model, kind))
    assert len(made) == len(wanted)
    assert [i for i, (a, b) in enumerate(zip(made, wanted, strict=True)) if a != b] == []


@pytest.mark.parametrize(
    ("name", "rows", "model", "kind"),
    [
        ("sgtr_xsum_qwen32b", 2000, "qwen32b", "own"),
        ("sgtr_xsum_seed36b", 2000, "seed36b", "own"),
        ("sgtr_xsum_gpt41", 2000, "gpt41", "own"),
        ("prefer_other_xsum_qwen32b", 2000, "qwen32b", "other"),
        ("random_xsum_qwen32b", 4000, "qwen32b", "random"),
        ("pick_longer_xsum_qwen32b", 1912, "qwen32b", "longer"),
        ("pick_longer_xsum_gpt41", 1900, "gpt41", "longer"),
        ("pick_longer_xsum_seed36b", 1980, "seed36b", "longer"),
    ],
)
def test_sets_of_the_registry_are_the_released_ones(
    released: Callable[[str], Any], name: str, rows: int, model: str, kind: str
) -> None:
    made = [[(m["role"], m["content"]) for m in row["messages"]] for row in load_set(find(name))]
    assert len(made) == rows and made == list(expected(released, "xsum", model, kind))


def test_the_eighteen_rows_of_seed_with_white_space_or_reasoning(released: Callable[[str], Any]) -> None:
    own = released("paper_data/summaries/xsum_train_hf_seed_36b_responses.json")
    odd = [key for key, text in own.items() if clean_summary(text)[0] != text]
    assert len(odd) == 9
    rows = {row["id"]: row["messages"][1]["content"] for row in load_set(find("sgtr_xsum_seed36b"))}
    for key in odd:
        assert f"Summary1:\n{own[key]}\n\nSummary2:" in rows[f"{key}-own1"]
        assert f"Summary2:\n{own[key]}\n\nCan you" in rows[f"{key}-own2"]
    recipe = PairsBuild(articles="articles_xsum", own="summaries_xsum_seed36b", other=("summaries_xsum_claude21",),
                        stimuli="published", shortcuts=False)  # fmt: skip
    report = build_set(recipe)[1]
    assert report["dropped"] == {} and report["kept"] == {"leaked reasoning in the own summary": 4, "no own summary": 1}
    records, report = build_set(recipe.model_copy(update={"unusable": "drop"}))
    assert len(records) == 1990 and sum(report["dropped"].values()) == 5 and report["kept"] == {}


def test_what_was_published_of_truthfulqa_asks_the_same(released: Callable[[str], Any], mirror: Path) -> None:
    import csv

    with (mirror / "paper_data/eval/results_hf_qwen_32b.csv").open(newline="", encoding="utf-8") as stream:
        asked = [(row["question"], row["correct_answer"], row["incorrect_answer"]) for row in csv.DictReader(stream)]
    ours = load_set(find("truthfulqa"))
    assert asked == [(row["Question"], row["Best Answer"], row["Best Incorrect Answer"]) for row in ours]
    choices = released("paper_data/eval/cnn_judge_hf_qwen_32b_between_hf_qwen_32b_claude-21.json")
    assert set(choices) == {row["id"] for row in load_set(find("articles_cnn"))}


def test_a_cached_set_of_another_recipe_or_of_older_code_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    entry, other = find("sgtr_xsum_qwen32b_popped"), find("articles_xsum")
    fetch(entry)
    fetch(other)
    key = set_key(entry.name)
    assert is_present(entry) and is_present(other)
    monkeypatch.setattr("sgtr_jax.data.build.BUILD_VERSION", 10**6)
    assert set_key(entry.name) != key and not is_present(entry) and is_present(other)
    fetch(entry)
    assert is_present(entry)
    monkeypatch.undo()
    # What the set is made from counts, too: this one is made from another that is made.
    below = find("sgtr_xsum_qwen32b").source
    assert isinstance(below, BuiltSource)
    monkeypatch.setitem(below.built, "match", "length")
    assert set_key(entry.name) != key
