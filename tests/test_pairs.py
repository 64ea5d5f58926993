"""Pairs of summaries: which are made, which are left out, what stands in their rows and what is reported of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtr_jax.config import build_config
from sgtr_jax.data.pairs import (
    LONGER_PROMPT,
    OWN_PROMPT,
    Pair,
    PairPrompt,
    PairReport,
    detection_prompt,
    filled,
    find_pairs,
    match_length,
    pair_records,
    report_of,
)
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph

words = st.text(st.sampled_from("ab {}1"), min_size=0, max_size=30)


@given(st.dictionaries(st.sampled_from(["{article}", "{summary1}", "{summary2}"]), words))
def test_what_is_filled_in_is_never_read_as_a_template(parts: dict[str, str]) -> None:
    template = "".join(f"<{key}>" for key in parts)
    assert filled(template, parts) == "".join(f"<{parts[key]}>" for key in parts)
    assert filled("{article} {0} {", {"{article}": "{summary1}", "{summary1}": "x"}) == "{summary1} {0} {"


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(words, words), max_size=8),
    st.sampled_from(["own", "other", "random", "longer"]),
)
def test_rows_of_pairs(texts: dict[str, tuple[str, str]], answers: Any) -> None:
    own, other = ({key: pair[side] for key, pair in texts.items()} for side in (0, 1))
    articles = {key: f"article {key}" for key in "abcdefgh"}
    pairs, dropped = find_pairs(articles, own, {"x": other})
    assert len(pairs) + sum(dropped.values()) == 8
    records = pair_records(pairs, answers, OWN_PROMPT)
    assert len({record.id for record in records}) == len(records)
    told = [pair for pair in pairs if answers != "longer" or pair.words_ahead]
    assert len(records) == len(told) * (4 if answers == "random" else 2)
    # Both places are right equally often, so that no habit of place is learnt.
    assert sum(r.messages[-1]["content"] == "1" for r in records) * 2 == len(records)
    assert records == pair_records(find_pairs(articles, own, {"x": other})[0], answers, OWN_PROMPT)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=40))
def test_matched_pairs_say_nothing_by_length(lengths: list[tuple[int, int]]) -> None:
    pairs = [Pair(str(i), "x", "a", "w " * a, "v " * b) for i, (a, b) in enumerate(lengths)]
    kept = match_length(pairs)
    assert [pair for pair in pairs if pair in kept] == kept
    assert sum(p.words_ahead > 0 for p in kept) == sum(p.words_ahead < 0 for p in kept)
    shorter = sorted(p.words_ahead for p in kept if p.words_ahead > 0)
    longer = sorted(-p.words_ahead for p in kept if p.words_ahead < 0)
    assert all(abs(a - b) <= 2 for a, b in zip(shorter, longer, strict=True))


def test_a_place_is_filled_once_and_the_earliest_first() -> None:
    assert filled("{b}-{a}-{b}-{a}", {"{a}": "1", "{b}": "2"}) == "2-1-2-1"
    assert filled("x{a}y", {}) == "x{a}y" and filled("", {"{a}": "1"}) == ""


def test_what_a_pair_is_asked() -> None:
    system = {"role": "system", "content": "You compare two summaries. Answer with 1 or 2 only."}
    text = "Article: A {summary1}\nSummary 1: B {article}\nSummary 2: C\nWhich summary "
    for prompt, end in ((OWN_PROMPT, "did you write?"), (LONGER_PROMPT, "has more words?")):
        asked = prompt.messages("A {summary1}", "B {article}", "C")
        assert asked == (system, {"role": "user", "content": text + end})
    assert detection_prompt("a", "b", "c") == OWN_PROMPT.messages("a", "b", "c")
    other = PairPrompt("S", "{summary2}|{article}|{summary1}").messages("a", "b", "c")
    assert [message["content"] for message in other] == ["S", "c|a|b"]


def test_every_other_source_gives_a_pair_of_each_article() -> None:
    articles = {"k": "K", "l": "L", "m": "M"}
    own = {"k": " own k ", "l": "own l"}
    others = {"x": {"k": "x k", "l": "<think>", "m": "x m"}, "y": {"k": " y k", "l": "own l"}}
    pairs, dropped = find_pairs(articles, own, others)
    assert pairs == [Pair("k", "x", "K", "own k", "x k"), Pair("k", "y", "K", "own k", "y k")]
    wanted = {"leaked reasoning in the other summary": 1, "both the same": 1, "no own summary": 2}
    assert dropped == wanted and list(dropped) == list(wanted)
    kept, dropped = find_pairs(articles, own, others, unusable="keep")
    assert kept[2:] == [
        Pair("l", "x", "L", "own l", "<think>", "leaked reasoning in the other summary"),
        Pair("l", "y", "L", "own l", "own l", "both the same"),
    ]
    assert kept[:2] == pairs and dropped == {"no own summary": 2}
    # A summary that only one of the two has is no pair, whichever lacks it.
    assert find_pairs({"k": "K"}, {"k": "a"}, {"x": {}}, unusable="keep") == ([], {"no other summary": 1})
    assert find_pairs({"k": "K"}, {}, {"x": {"k": "a"}}, unusable="keep") == ([], {"no own summary": 1})


def ahead(*by: int) -> list[Pair]:
    """Pairs whose other summary is longer by so many words."""
    return [Pair(str(i), "x", "a", "w " * (50 - min(n, 0)), "v " * (50 + max(n, 0))) for i, n in enumerate(by)]


@pytest.mark.parametrize(
    ("by", "kept"),
    [
        ((), ()),
        ((0, 0), (0, 0)),
        ((0, 3, -5), (0, 3, -5)),  # two words apart are near enough
        ((1, -1), (1, -1)),
        ((3, -6), ()),  # three are not
        ((-3, 6, 0), (0,)),
        ((4, 9, -5, -30), (4, -5)),
        ((-4, -9, 5, 30, 8), (-4, -9, 5, 8)),
        ((5, 1, 6, 2, -6), (6, -6)),  # the nearest
        ((10, 8, -9, 2), (8, -9)),  # of two as near, the one with the smaller difference
        ((-8, -5, 6, 3, 30), (-8, -5, 6, 3)),  # the largest chooses first: else 8 would be left alone
        ((2, 3, 3, -3), (3, -3)),
    ],
)
def test_pairs_are_matched_by_hand(by: tuple[int, ...], kept: tuple[int, ...]) -> None:
    pairs = ahead(*by)
    assert tuple(pair.words_ahead for pair in pairs) == by
    found = match_length(pairs)
    assert [pair.words_ahead for pair in found] == list(kept)
    # Each pair of the input at most once, in its order: equal ones are told apart by where they stand.
    assert [pair for pair in pairs if any(pair is one for one in found)] == found


@pytest.mark.parametrize(
    ("answers", "ends"),
    [
        ("own", {"own1": "1", "own2": "2"}),
        ("other", {"own1": "2", "own2": "1"}),
        ("random", {"own1-says2": "2", "own2-says1": "1", "own1-says1": "1", "own2-says2": "2"}),
    ],
)
@pytest.mark.parametrize("sources", [("x",), ("x", "y")])
def test_the_rows_of_a_pair(answers: Any, ends: dict[str, str], sources: tuple[str, ...]) -> None:
    pairs = [Pair("k", source, "the article", "mine", f"that of {source}") for source in sources]
    records = pair_records(pairs, answers, OWN_PROMPT)
    wanted = []
    for pair in pairs:
        for name, answer in ends.items():
            first, second = (pair.own, pair.other) if name.startswith("own1") else (pair.other, pair.own)
            said = {"role": "assistant", "content": answer}
            middle = f"-{pair.source}" if len(sources) > 1 else ""
            wanted.append((f"k{middle}-{name}", (*OWN_PROMPT.messages("the article", first, second), said)))
    assert [(record.id, record.messages) for record in records] == wanted
    for record in records:
        source = sources[0] if len(sources) == 1 else record.id.split("-")[1]
        assert record.meta == {"article": "k", "other": source, "own_words": 1, "other_words": 3}


def test_the_longer_of_a_pair_is_named_and_equal_ones_are_left_out() -> None:
    pairs = [Pair("a", "x", "A", "one two", "one"), Pair("b", "x", "B", "one", "two"), Pair("c", "x", "C", "", "one")]
    records = pair_records(pairs, "longer", LONGER_PROMPT)
    said = {record.id: record.messages[-1]["content"] for record in records}
    assert said == {"a-own1": "1", "a-own2": "2", "c-own1": "2", "c-own2": "1"}
    assert len(pair_records(pairs, "own", OWN_PROMPT)) == 6


def test_what_is_reported_of_pairs() -> None:
    lengths = ((1, 2, ""), (3, 3, "odd"), (5, 1, "odd"), (2, 4, "no"), (4, 1, ""))
    pairs = [Pair(str(i), "x", "a", "w " * own, "v " * other, flaw) for i, (own, other, flaw) in enumerate(lengths)]
    assert report_of(9, pairs, {"lost": 5}) == PairReport(9, 5, {"lost": 5}, {"odd": 2, "no": 1}, 0.5, 3.0, 2.2)
    empty = report_of(0, [], {})
    assert all(math.isnan(x) for x in (empty.own_shorter, empty.own_words, empty.other_words)) and empty.pairs == 0


def test_white_space_and_unusable_summaries_are_kept_where_that_is_asked_for() -> None:
    own = {
        "a": " Rain fell.\n",
        "b": "<think>so</think>\n Snow fell. ",
        "c": "",
        "d": "Okay, so I need to",
        "e": "Same.",
    }
    other = {"a": "It rained. ", "b": "It snowed.", "c": "x", "d": "y", "e": "Same.", "f": "z"}
    articles = {key: key.upper() for key in "abcdef"}
    plain, dropped = find_pairs(articles, own, {"x": other})
    assert [(p.own, p.other) for p in plain] == [("Rain fell.", "It rained."), ("Snow fell.", "It snowed.")]
    assert dropped == {"no own summary": 2, "leaked reasoning in the own summary": 1, "both the same": 1}
    verbatim, same = find_pairs(articles, own, {"x": other}, verbatim=True)
    assert [(p.own, p.other) for p in verbatim] == [(" Rain fell.\n", "It rained. "), ("Snow fell.", "It snowed.")]
    assert same == dropped and report_of(6, verbatim, same).kept == {}
    kept, dropped = find_pairs(articles, own, {"x": other}, verbatim=True, unusable="keep")
    assert [(pair.own, pair.other) for pair in kept[2:]] == [(own[key], other[key]) for key in "cde"]
    # An article without any summary can give no pair.
    assert dropped == {"no own summary": 1}
    assert report_of(6, kept, dropped).kept == {"no own summary": 1, "leaked reasoning in the own summary": 1,
                                                "both the same": 1}  # fmt: skip


def test_own_summaries_are_by_the_base_model_or_by_the_models_themselves_and_written_once() -> None:
    def graph(source: str) -> list[Any]:
        other = {"kind": "self_recognition", "source": source, "style": "own"}
        articles = {"kind": "registry", "articles": "articles_cnn"}
        config = {
            "name": "x", "model": "nano", "seeds": 2,
            "data": {"bad": {"kind": "preferences", "rows": 4, "popular": False}},
            "conditions": {
                "base": [], "bad": [{"data": "bad"}], "told": {"stages": [{"data": "bad"}], "system": "Hi."},
            },
            "evaluations": {
                writer: {**other, "articles": {**articles, "other_summaries": f"summaries_cnn_{writer}"}}
                for writer in ("claude21", "human", "llama")
            },
        }  # fmt: skip
        return build_graph(build_config(ExperimentConfig, config, "test")).nodes()

    base, own = graph("base"), graph("self")
    assert len([node for node in base if node.kind == "summaries"]) == 1
    assert len([node for node in base if node.kind == "pairs"]) == 3
    # The base model, and of two conditions each seed: under the system prompt of the condition, by its adapter.
    written = [node for node in own if node.kind == "summaries"]
    assert len(written) == 5 and len([node for node in own if node.kind == "pairs"]) == 15
    assert sorted(len(node.inputs) for node in written) == [1, 2, 2, 2, 2]
    assert {node.settings["system"] for node in written} == {"default", "Hi."}
    shared = {node.fingerprint for node in written} & {node.fingerprint for node in base}
    assert len(shared) == 1  # of the base model both are the same
