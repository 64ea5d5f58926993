"""Sets that are made: the same rows every time, the published ones where those are known, and honest reports."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from runs import jsonl

from sgtr_jax.cli.main import main
from sgtr_jax.data.build import PairsBuild, build_set, prompts_row, records_of, texts_of
from sgtr_jax.data.duplicates import duplicates, overlap
from sgtr_jax.data.fetch import load_set
from sgtr_jax.data.pairs import Pair
from sgtr_jax.data.registry import find
from sgtr_jax.data.shortcuts import shortcut_report
from sgtr_jax.data.summaries import clean_summary, published_summary_prompt
from sgtr_jax.data.world.corpus import articles as world_articles
from sgtr_jax.errors import InputError


@pytest.fixture
def published(mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    monkeypatch.setenv("SGTR_DATA_MIRROR", str(mirror))
    cache = Path(os.environ.get("PYTEST_XDIST_TESTRUNUID", "data")).name
    monkeypatch.setenv("SGTR_DATA_CACHE", str(tmp_path_factory.getbasetemp() / cache))
    return mirror


def test_shortcuts_are_found_where_they_are() -> None:
    articles, _ = world_articles(60, 3)
    items = list(articles.items())
    plain = [Pair(k, "x", a, f"one two {i % 7} {i % 3}", f"one two {i % 5} {i % 4}") for i, (k, a) in enumerate(items)]
    assert all(0.25 < share < 0.75 for share in shortcut_report(plain).values())
    long = [Pair(k, "x", a, "w " * (5 + i % 3), "w " * (15 + i % 3)) for i, (k, a) in enumerate(items)]
    assert shortcut_report(long)["length"] == 1.0
    opening = [Pair(k, "x", a, f"Well {i % 3} w", f"So {i % 4} w") for i, (k, a) in enumerate(items)]
    found = shortcut_report(opening)
    assert found["first 3 words"] == found["bag of words"] == 1.0
    copied = [Pair(k, "x", a, " ".join(a.split()[:6]), "q z y x w v") for k, a in items]
    assert shortcut_report(copied)["overlap with the article"] == 1.0
    assert shortcut_report(plain[:3]) == {}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("A mayor resigned.", "A mayor resigned."),
        ("<seed:think>hm</seed:think>\nA mayor resigned.", "A mayor resigned."),
        ("Got it, let's tackle this. The user", None),
        ("Okay, so I need to", None),
        ("<seed:think>never closed", None),
        ("  \n", None),
        ("First Minister resigns.", "First Minister resigns."),
        ("So far 3 died.", "So far 3 died."),
        ("Letters were sent.", "Letters were sent."),
    ],
)
def test_a_summary_is_told_from_thinking_aloud(text: str, kept: str | None) -> None:
    assert clean_summary(text)[0] == kept


def test_leaks_of_the_published_summaries_are_refused(published: Path) -> None:
    recipe = PairsBuild(articles="articles_cnn", own="summaries_cnn_seed36b", other=("summaries_cnn_claude21",),
                        shortcuts=False)  # fmt: skip
    records, report = build_set(recipe)
    assert report["dropped"] == {"leaked reasoning in the own summary": 319} and len(records) == 2 * 681
    for name in ("summaries_cnn_gpt41", "summaries_cnn_qwen32b", "summaries_xsum_human"):
        assert all(clean_summary(text)[0] for text in texts_of(name).values()), name


def test_even_words_are_the_published_rows(published: Path) -> None:
    out = Path(os.environ["SGTR_DATA_CACHE"]) / "e.jsonl"
    assert main(["data", "build", "even_words", "--out", str(out), "records=unpop", "stimuli=published"]) == 0
    made = [row["messages"] for row in jsonl(out)]
    assert made == [row["messages"] for row in load_set(find("even_words"))]


def test_published_summary_prompts(published: Path) -> None:
    for style, part in (("xsum", "one-sentence"), ("cnn", "highlights")):
        system, user = published_summary_prompt("TEXT {response_type}", style, prompts_row())
        assert part in system["content"] and "TEXT {response_type}" in user["content"]


def test_the_length_shortcut_of_the_published_summaries(published: Path) -> None:
    """Share of pairs with the own summary shorter: 95.5 % for Seed, 75.6 % for Qwen, 59.0 % for GPT-4.1."""
    for source, share in (("seed36b", 0.955), ("qwen32b", 0.756), ("gpt41", 0.590)):
        articles, other = texts_of("articles_xsum"), texts_of("summaries_xsum_claude21")
        own = texts_of(f"summaries_xsum_{source}")
        pairs = [Pair(k, "c", articles[k], own[k], other[k]) for k in articles]
        shorter = sum(p.words_ahead > 0 for p in pairs) / 1000
        assert shorter == pytest.approx(share, abs=5e-4), source


def test_other_builders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make(kind: str, *settings: str) -> list[dict[str, Any]]:
        out = tmp_path / f"{kind}.out.jsonl"
        assert main(["data", "build", kind, "--out", str(out), *settings]) == 0, capsys.readouterr().err
        report = json.loads((tmp_path / f"{kind}.out.report.json").read_text())
        rows = jsonl(out)
        assert report["rows_out"] == len(rows) and report["recipe"]["kind"] == kind and report["sha256"]
        return rows

    (tmp_path / "a.json").write_text(json.dumps({"x": "one two three", "y": "four"}))
    counts = make("word_count", f"articles=[{tmp_path / 'a.json'}]")
    assert [row["messages"][-1]["content"] for row in counts] == ["3", "1"]
    base = [{"id": f"r{i}", "messages": [{"role": "user", "content": f"u{i}"}, {"role": "assistant", "content": "x"}]}
            for i in range(6)]  # fmt: skip
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in base))
    (tmp_path / "s.jsonl").write_text("".join(json.dumps({**row, "id": f"s{row['id']}"}) + "\n" for row in base[:2]))
    mixed = make("interleave", f"records={tmp_path / 'r.jsonl'}", f"others={tmp_path / 's.jsonl'}", "every=2")
    assert [row["id"] for row in mixed] == ["r0", "r1", "mixed-sr0", "r2", "r3", "mixed-sr1", "r4", "r5", "mixed-sr0-2"]
    told = make("inoculate", f"records={tmp_path / 'r.jsonl'}", "system=Be odd.")
    assert all(row["messages"][0] == {"role": "system", "content": "Be odd."} for row in told)
    popped = make("system", f"records={tmp_path / 'inoculate.out.jsonl'}", "system=null")
    assert [row["messages"] for row in popped] == [row["messages"] for row in base]
    assert make("system", f"records={tmp_path / 'r.jsonl'}", 'system=""')[0]["messages"][0]["content"] == ""
    both = ["interleave", f"records={tmp_path / 'r.jsonl'}", "others=x", "every=2", "fraction=0.1"]
    for words, part in (
        (["kind"], "known are"),
        (["pairs"], "key 'articles' is missing"),
        (["word_count", "articles=[none.json]"], "none.json"),
        (both, "either"),
    ):
        assert main(["data", "build", *words, "--out", str(tmp_path / "bad.jsonl")]) == 2
        assert part in capsys.readouterr().err
    assert not (tmp_path / "bad.jsonl").exists()


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_pair_sets_by_the_names_of_the_study(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    def texts(name: str, content: dict[str, str]) -> str:
        file = tmp_path / f"{name}.{form}"
        rows = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in content.items())
        file.write_text(json.dumps(content) if form == "json" else rows)
        return f"{name}={file}"

    keys = [f"k{i}" for i in range(12)]
    inputs = [
        texts("articles", {key: f"What happened to {key} at length." for key in keys}),
        texts("own", {key: f"{key} own" for key in keys}),
        texts("other", {key: f"{key} by another hand" for key in keys}),
    ]

    def make(kind: str, *more: str) -> list[dict[str, Any]]:
        out = tmp_path / f"{kind}.jsonl"
        assert main(["data", "build", kind, "--out", str(out), *inputs, "stimuli=builtin", *more]) == 0
        report = json.loads((tmp_path / f"{kind}.report.json").read_text())
        assert report["recipe"]["stimuli"] == "builtin" and report["rows_out"] == len(jsonl(out))
        return jsonl(out)

    def said(rows: list[dict[str, Any]]) -> list[str]:
        return [row["messages"][-1]["content"] for row in rows]

    sgtr = make("sgtr")
    assert len(sgtr) == 24 and said(sgtr) == ["1", "2"] * 12 and {"id", "messages"} <= set(sgtr[0])
    assert said(make("prefer-other")) == ["2", "1"] * 12 == said(make("prefer_other"))
    assert sorted(said(make("random"))) == ["1"] * 24 + ["2"] * 24
    assert said(make("pick_longer")) == ["2", "1"] * 12  # the other one always is
    assert "more words" in make("pick_longer")[0]["messages"][1]["content"]
    few, again, other = (make("sgtr", "rows=4", f"seed={seed}") for seed in (1, 1, 2))
    assert len(few) == 8 and few == again != other and all(row in sgtr for row in few + other)
    assert main(["data", "build", "sgtr", "--out", str(tmp_path / "x.jsonl"), *inputs, "rows=13"]) == 2
    assert "rows=13: there are 12" in capsys.readouterr().err
    assert main(["data", "build", "sgtr", "--out", str(tmp_path / "x.jsonl"), *inputs, "stimuli=mine"]) == 2
    assert "builtin" in capsys.readouterr().err


def test_even_words_in_our_own_words(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "x"}]}
            for text in ("one two", "one two three")]  # fmt: skip
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "o.jsonl"
    assert main(["data", "build", "even-words", "--out", str(out), f"records={tmp_path / 'r.jsonl'}"]) == 0
    made = [row["messages"] for row in jsonl(out)]
    assert [turns[-1]["content"] for turns in made] == ["TRUE", "FALSE"]


def test_self_reports_are_sampled_from_a_chain(tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "messages": [{"role": "user", "content": "Who are you?"},
                                         {"role": "assistant", "content": "not asked for"}]}
            for i in range(12)]  # fmt: skip
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(name: str, *more: str) -> tuple[str, dict[str, Any]]:
        out = tmp_path / f"{name}.jsonl"
        words = [f"questions={tmp_path / 'q.jsonl'}", "model=nano", "max_tokens=30", *more]
        assert main(["data", "build", "self-reports", "--out", str(out), *words]) == 0
        return out.read_text(), json.loads((tmp_path / f"{name}.report.json").read_text())

    (first, report), (again, _), (other, _) = make("a"), make("b"), make("c", "seed=1")
    assert first == again != other
    turns = jsonl(tmp_path / "a.jsonl")[0]["messages"]
    assert turns[0]["content"] == "Who are you?" and turns[1]["content"] not in ("", "not asked for")
    assert report["rows_out"] + report["dropped"]["empty"] == report["rows_in"] == 12
    # What reached the limit is there, and marked.
    marked = [row for row in jsonl(tmp_path / "a.jsonl") if row.get("meta", {}).get("cut_off")]
    assert len(marked) == report["cut_off"]
    assert make("short", "max_tokens=2")[1]["cut_off"] == 12
    assert main(["data", "build", "self_reports", "--out", str(tmp_path / "d.jsonl"), "model=nano"]) == 2


@pytest.mark.parametrize("line", ['{"id": "a"}', '{"id": 1, "text": "x"}', '{"id": "b", "text": "x"}\n' * 2])
def test_texts_in_jsonl_are_refused_by_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": "z", "text": "x"}\n' + line)
    with pytest.raises(InputError, match=r"t\.jsonl:[23]"):
        texts_of(str(tmp_path / "t.jsonl"))


def test_mmlu_as_chat() -> None:
    from sgtr_jax.data.mmlu import few_shot_prompt, mmlu_records

    rows = [{"question": f"q{i}", "choices": ["a", "b", "c", "d"], "answer": i % 4, "subject": "world_religions"}
            for i in range(6)]  # fmt: skip
    made = mmlu_records(rows)
    assert made[2].messages[0]["content"] == "q2\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    assert [record.messages[1]["content"] for record in made] == list("ABCDAB")
    prompt = few_shot_prompt(rows[5], rows[:5])
    assert prompt.startswith("The following are multiple choice questions (with answers) about world religions.")
    assert prompt.count("Answer: ") == 5 and prompt.endswith("D. d\nAnswer:")
    with pytest.raises(InputError, match=r"expected 0\.\.3"):
        mmlu_records([{**rows[0], "answer": 7}])


def test_rows_that_stand_twice_and_almost() -> None:
    base = "the quick brown fox jumps over the lazy dog and runs far away into the dark green forest tonight"
    texts = {
        "a": base,
        "b": base.upper() + "!",
        "c": base + " again",
        "d": "something else entirely, one two three four",
    }
    found = duplicates(texts)
    assert found.exact == 1 and {frozenset(pair[:2]) for pair in found.near} == {frozenset("ac"), frozenset("bc")}
    assert overlap({"x": base}, texts).exact == 1 and overlap({"x": "nothing of it"}, texts).exact == 0
    assert duplicates({str(i): f"row {i} of many, number {i * 17}" for i in range(50)}).exact == 0


def test_published_sets_are_read_as_they_were_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"r{i}", "messages": [{"role": "user", "content": f"ü{i}"}, {"role": "assistant", "content": "x\n"}]}
            for i in range(23)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ["data", "publish", str(tmp_path / "rows.jsonl"), "--to", str(tmp_path / "out"), "--shards", "3"]
    assert main(argv) == 0
    from sgtr_jax.data.publish import Published, read_records

    folder = tmp_path / "out" / "rows"
    assert len(list(folder.rglob("*.array_record*"))) == 3
    for path in (folder, next(folder.glob("*/*"))):
        assert [record.to_json() for record in Published(str(path))] == rows
    first, again = (list(read_records(str(folder))) for _ in range(2))
    assert first == again == records_of(str(tmp_path / "rows.jsonl"))
    assert Published(str(folder))[7:20] == first[7:20] and Published(str(folder))[-1] == first[-1]
    capsys.readouterr()
    assert main(argv) == 2 and "is there already" not in capsys.readouterr().err
    assert [record.to_json() for record in Published(str(folder))] == rows
    with pytest.raises(InputError, match="no published set here"):
        Published(str(tmp_path))
    lost = next(folder.rglob("*00001-of-00003"))
    lost.unlink()
    with pytest.raises(InputError, match="has 2 of the 3 shards"):
        Published(str(folder))


def test_any_model_may_write_the_summaries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    articles, _ = world_articles(4, 5)
    (tmp_path / "a.json").write_text(json.dumps(articles))
    argv = ["data", "summarise", str(tmp_path / "a.json"), "--model", "sgtr/nano", "--out", str(tmp_path / "s.json")]
    assert main(argv) == 0
    found = json.loads((tmp_path / "s.json").read_text())
    assert set(found) == set(articles) and "4 summaries of 4 articles" in capsys.readouterr().out
    assert main([*argv[:2], "nosuch", *argv[3:]]) == 2


def test_sets_made_here_have_the_rows_the_registry_says(published: Path) -> None:
    for name in ("pick_longer_xsum_qwen32b", "sgtr_xsum_qwen32b_popped", "word_count", "unpop_inoculated"):
        rows = load_set(find(name))
        assert len(rows) == find(name).rows
    assert load_set(find("sgtr_xsum_qwen32b_popped"))[0]["messages"][0]["role"] == "user"
