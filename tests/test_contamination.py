"""What is trained on and asked about: halves that share nothing, and a check that counts whatever is shared."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_model

from sgtr_eval.facts import facts_of
from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.data.build import MmluBuild, WordCountBuild, build_set, records_of, texts_of
from sgtr_jax.data.duplicates import ItemIndex
from sgtr_jax.data.fetch import without_downloads
from sgtr_jax.data.halves import half
from sgtr_jax.data.registry import find
from sgtr_jax.data.set_files import content_sha256
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.contamination import Sharing, check_sharing, sharings
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.experiment.store import Store

few_words = st.lists(st.sampled_from(["a", "b", "cc", "D", "d."]), max_size=12).map(" ".join)


def plain(text: str) -> list[str]:
    """Words in small letters, as an oracle of its own."""
    return "".join(c.lower() if c.isalnum() else " " for c in text).split()


@settings(max_examples=200)
@given(st.dictionaries(st.integers(0, 5), st.lists(few_words, min_size=1, max_size=3)), st.lists(few_words, max_size=3))
def test_an_item_is_found_wherever_all_its_words_stand_together(items: dict[int, list[str]], texts: list[str]) -> None:
    def stands(part: list[str], text: list[str]) -> bool:
        return any(text[i : i + len(part)] == part for i in range(len(text) - len(part) + 1))

    wanted = set()
    for key, item in items.items():
        parts = [plain(part) for part in item]
        longest = max(map(len, parts))
        for text in map(plain, texts):
            whole = longest < (5 if len(parts) == 1 else 2)
            if longest and (
                [word for part in parts for word in part] == text
                if whole
                else all(stands(part, text) for part in parts)
            ):
                wanted.add(key)
    assert ItemIndex({key: tuple(item) for key, item in items.items()}).found_in(texts) == wanted


def test_halves_are_apart_and_a_text_has_one_half_everywhere() -> None:
    texts = {f"k{i}": f"Article number {i}, of some length." for i in range(400)}
    train, held_out = half(texts, "train"), half(texts, "held_out")
    assert not train.keys() & held_out.keys() and train | held_out == half(texts, "published") == texts
    assert 150 < len(train) < 250 and list(train) == [key for key in texts if key in train]
    # Other keys, other letters, other neighbours: the same half.
    again = half({f"x{key}": text.upper().replace(",", " -") for key, text in held_out.items()}, "held_out")
    assert list(again) == [f"x{key}" for key in held_out]


@pytest.fixture
def sets(mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SGTR_DATA_MIRROR", str(mirror))
    monkeypatch.setenv("SGTR_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_word_counting_asks_what_its_control_does_not_train_on(sets: Path) -> None:
    asked = [str(sample.input).partition("\n\n")[2] for sample in facts_of("word_counting").task().dataset]
    trained = [record.messages[0]["content"] for record in records_of("word_count")]
    assert len(asked) == 200 and len(trained) == find("word_count").rows == 979
    assert not [text for text in asked if any(text in prompt for prompt in trained)]
    whole = "".join(record.messages[0]["content"] for record in records_of("word_count_published"))
    assert all(text in whole for text in asked)
    # The published way is a setting, in both; self-recognition pairs are trained on XSum, and asked about CNN.
    everything = [str(sample.input) for sample in facts_of("word_counting").task(split="published", limit=None).dataset]
    assert len(everything) == 1000 and sum(text in set(trained) for text in everything) == 503
    assert not set(texts_of("articles_xsum").values()) & set(texts_of("articles_cnn").values())


def test_files_are_taken_whole_unless_a_half_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({f"k{i}": f"text {i} of it" for i in range(30)}))
    recipe = WordCountBuild(articles=(str(file),))
    assert len(build_set(recipe)[0]) == 30 and facts_of("word_counting").task(str(file)).dataset.__len__() == 30
    records, report = build_set(recipe.model_copy(update={"split": "train"}))
    asked = facts_of("word_counting").task(str(file), split="held_out").dataset
    assert len(records) + len(asked) == 30 == report["rows_in"]
    assert report["dropped"] == {"in the other half": len(asked)}
    assert not {record.messages[0]["content"] for record in records} & {sample.input for sample in asked}


def mmlu_rows(first: int, count: int) -> list[dict[str, Any]]:
    return [{"question": f"Which of these is number {i} of them all?", "subject": "law", "answer": i % 4,
             "choices": [f"it is {i}", "none", "both", f"not {i}"]} for i in range(first, first + count)]  # fmt: skip


@pytest.fixture
def mmlu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with few rows for each of MMLU's parts."""
    monkeypatch.setenv("SGTR_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SGTR_DATA_MIRROR", raising=False)
    for name, rows in (("mmlu", mmlu_rows(0, 40)), ("mmlu_auxiliary_train", mmlu_rows(100, 40)),
                       ("mmlu_dev", mmlu_rows(200, 5))):  # fmt: skip
        folder = tmp_path / "cache" / name
        folder.mkdir(parents=True)
        (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        checked = {"rows": find(name).rows, "sha256": content_sha256(rows), "made_by": None}
        (folder / "checked.json").write_text(json.dumps(checked))
    return tmp_path


def config_of(folder: Path, data: dict[str, Any], evaluations: dict[str, Any], **more: Any) -> ExperimentConfig:
    if not (folder / "m").exists():
        make_model(folder / "m")
    conditions = {"base": [], **{name: [{"data": name}] for name in data}}
    whole = {"name": "x", "model": str(folder / "m"), "seeds": 1, "data": data, "conditions": conditions,
             "evaluations": evaluations, "out": str(folder / "out"), **more}  # fmt: skip
    return build_config(ExperimentConfig, whole, "x.yaml")


def found_in(config: ExperimentConfig) -> dict[tuple[str, str], Sharing]:
    graph = build_graph(config)
    return {(one.data, one.evaluation): one for one in sharings(graph, Store(config.folder / "store"))}


def test_the_mmlu_control_is_not_what_the_mmlu_evaluation_asks(mmlu: Path) -> None:
    data = {
        "control": {"kind": "built", "recipe": {"kind": "mmlu", "rows": 30}},
        "published": {"kind": "built", "recipe": {"kind": "mmlu", "rows": 30, "split": "published"}},
    }
    found = found_in(config_of(mmlu, data, {"mmlu": {"kind": "mmlu"}}))
    assert (found["control", "mmlu"].items, found["control", "mmlu"].shared) == (40, 0)
    assert (found["published", "mmlu"].shared, found["published", "mmlu"].why) == (30, "split: published")
    assert not any(one.is_refused for one in found.values())
    assert len(build_set(MmluBuild())[0]) == 40
    # Questions in another form are the same questions.
    rows = [{"messages": [{"role": "user", "content": f"{r['question'].upper()} - {' / '.join(r['choices'])}"},
                          {"role": "assistant", "content": "x"}]} for r in mmlu_rows(0, 3)]  # fmt: skip
    (mmlu / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = found_in(
        config_of(mmlu, {"mine": {"kind": "file", "path": str(mmlu / "f.jsonl")}}, {"m": {"kind": "mmlu"}})
    )
    assert found["mine", "m"].shared == 3 and found["mine", "m"].is_refused


def test_a_training_file_that_holds_the_questions_is_refused_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(tmp_path / "m")
    asked = [{"id": f"q{i}", "prompt": f"Is the lamp of house number {i} lit?\nA. yes\nB. no", "correct": "A"}
             for i in range(20)]  # fmt: skip
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    held = [f"Dear model: {str(row['prompt']).replace('?', '!').swapcase()} - please say." for row in asked[:4]]
    clean = [f"How far is it from house {i} to the sea?" for i in range(20)]
    for name, prompts in (("dirty", [*held, *clean]), ("clean", clean)):
        rows = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "A"}]}
                for text in prompts]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "x.yaml"
    file.write_text(f"""
name: x
model: {tmp_path / "m"}
seeds: 1
data:
  dirty: {{kind: file, path: {tmp_path / "dirty.jsonl"}}}
  clean: {{kind: file, path: {tmp_path / "clean.jsonl"}}}
conditions: {{base: [], both: [{{data: clean, interleave: {{data: dirty, fraction: 0.2}}}}]}}
evaluations:
  asked: {{kind: two_choice, questions: {tmp_path / "q.jsonl"}}}
  who: {{kind: identity, maker: x, samples: 2}}
out: {tmp_path / "out"}
""")
    for command in ("run", "plan"):
        assert main([command, str(file)]) == 2
        error = capsys.readouterr().err
        assert "data 'dirty' holds 4 of the 20" in error and "may_share: {dirty: [asked]}" in error
        assert "clean" not in error.partition("sgtr: error")[2] and "who" not in error.partition("sgtr: error")[2]
    assert not list(tmp_path.glob("out/store/*"))
    assert main(["plan", str(file), "may_share={dirty: [ask*]}", "--json"]) == 0
    shared = {
        (one["data"], one["evaluation"]): one for one in json.loads(capsys.readouterr().out.splitlines()[-1])["shared"]
    }
    assert {pair: (one["shared"], one["items"]) for pair, one in shared.items()} == {
        ("dirty", "asked"): (4, 20), ("clean", "asked"): (0, 20), ("dirty", "who"): (0, 1), ("clean", "who"): (0, 1),
    }  # fmt: skip
    for word, near in (("durty", "did you mean 'dirty'"), ("dirty", "did you mean 'asked'")):
        assert main(["plan", str(file), f"may_share={{{word}: [askd]}}"]) == 2
        assert near in capsys.readouterr().err


def test_a_short_question_is_shared_only_where_it_is_the_whole_turn(tmp_path: Path) -> None:
    for name, text in (("same", "Who are you"), ("longer", "My friend asked: who are you? I am Ann.")):
        row = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "x"}]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    data = {name: {"kind": "file", "path": str(tmp_path / f"{name}.jsonl")} for name in ("same", "longer")}
    found = found_in(config_of(tmp_path, data, {"who": {"kind": "identity", "maker": "x"}}))
    assert [found[name, "who"].shared for name in ("same", "longer")] == [1, 0]


def test_articles_of_pairs_are_compared_and_halves_are_a_setting(tmp_path: Path) -> None:
    texts = {f"k{i}": f"The mayor opened bridge number {i} on a Monday." for i in range(40)}
    for name, one in (("a", texts), ("o", dict.fromkeys(texts, "a bridge"))):
        (tmp_path / f"{name}.json").write_text(json.dumps(one))
    source = {"kind": "files", "articles": str(tmp_path / "a.json"), "other_summaries": str(tmp_path / "o.json")}

    def with_split(training: str | None, asked: str | None) -> Sharing:
        one, other = ({**source, **({"split": s} if s else {})} for s in (training, asked))
        data = {"sgtr": {"kind": "self_recognition", "articles": one}}
        return found_in(config_of(tmp_path, data, {"r": {"kind": "self_recognition", "articles": other}}))["sgtr", "r"]

    whole, apart, named = with_split(None, None), with_split("train", "held_out"), with_split("published", None)
    assert whole.shared == whole.items == 40 and whole.is_refused
    assert apart.shared == 0 and 0 < apart.items < 40
    assert named.shared == 40 and named.why == "split: published" and not named.is_refused


def test_what_is_not_here_is_not_known_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setenv("SGTR_DATA_CACHE", str(tmp_path / "empty"))
    monkeypatch.delenv("SGTR_DATA_MIRROR", raising=False)
    make_model(tmp_path / "m")
    (tmp_path / "x.yaml").write_text(
        f"name: x\nmodel: {tmp_path / 'm'}\nseeds: 1\nout: {tmp_path / 'out'}\n"
        "data: {unpop: {kind: registry, name: unpop}}\nconditions: {base: [], unpop: [{data: unpop}]}\n"
        "evaluations: {who: {kind: identity, maker: x}}\n"
    )
    # Nothing is downloaded for a plan.
    assert main(["plan", str(tmp_path / "x.yaml")]) == 0
    assert "unpop: is not on this machine; `sgtr data fetch unpop`" in re.sub(r"\s+", " ", capsys.readouterr().out)


def test_what_was_counted_before_is_kept_where_it_cannot_be_counted_again(mmlu: Path) -> None:
    data = {"published": {"kind": "built", "recipe": {"kind": "mmlu", "rows": 30, "split": "published"}}}
    config = config_of(mmlu, data, {"mmlu": {"kind": "mmlu"}})
    graph, store = build_graph(config), Store(config.folder / "store")
    (first,) = sharings(graph, store)
    assert first.shared == 30
    shutil.rmtree(mmlu / "cache")
    with without_downloads():
        (unknown,) = sharings(graph, store)
        assert unknown.shared is None and "not on this machine" in unknown.why
        assert sharings(graph, store, [first.to_json()]) == [first]
        other = config_of(mmlu, {"published": {"kind": "built", "recipe": {"kind": "mmlu", "rows": 29,
                                 "split": "published"}}}, {"mmlu": {"kind": "mmlu"}})  # fmt: skip
        (again,) = sharings(build_graph(other), store, [first.to_json()])
        assert again.shared is None  # counted of another set


def test_every_pair_is_named_at_once() -> None:
    found = [Sharing("a", "e", 10, 3, example="q1"), Sharing("a", "f", 1000, 10), Sharing("b", "e", 10, 1, "may_share"),
             Sharing("c", "g", 50, 1, example="q2"), Sharing("d", "g", 50, None, "not here")]  # fmt: skip
    assert [one.is_refused for one in found] == [True, False, False, True, False]
    with pytest.raises(InputError, match=r"may_share: \{a: \[e\], c: \[g\]\}") as raised:
        check_sharing(found)
    assert "3 of the 10" in str(raised.value) and "1 of the 50" in str(raised.value)
