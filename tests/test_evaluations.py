"""Evaluations run through Inspect with our engine as its model, and score what they say they score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import inspect_ai
import pytest
from inspect_ai.log import EvalLog
from inspect_ai.model import GenerateConfig, get_model
from tiny import make_adapter, make_model

import sgtr_jax
from sgtr_eval import registry
from sgtr_eval.choices import OPTIONS_KEY
from sgtr_eval.provider import inspect_model
from sgtr_jax.data.pairs import OWN_PROMPT, find_pairs, pair_records, report_of
from sgtr_jax.sample.model import Model
from sgtr_jax.sample.request import Request


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("model") / "m"
    spec = make_model(folder)
    make_adapter(folder.parent / "a", spec, size=0.3)
    return sgtr_jax.load_model(folder)


def run(task: Any, model: Any, folder: Path) -> EvalLog:
    (log,) = inspect_ai.eval(task, model=model, log_dir=str(folder), display="none", log_level="error")
    assert log.status == "success", log.error
    return log


def numbers(log: EvalLog) -> dict[str, float]:
    assert log.results is not None
    return {name: metric.value for score in log.results.scores for name, metric in score.metrics.items()}


def test_two_choice_is_the_likelier_letter(model: Model, tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "prompt": f"Question {i}?", "correct": "AB"[i % 2]} for i in range(7)]
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    log = run(registry.two_choice(str(file)), inspect_model(model), tmp_path / "log")
    from sgtr_jax.data.chat import ChatFormat

    chat = ChatFormat(model.tokenizer)
    a, b = (model.tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "AB")
    right = 0
    for row in rows:
        logits = model.logits([chat.prompt_ids([{"role": "user", "content": row["prompt"]}])])[0, -1]
        right += ("A" if logits[a] > logits[b] else "B") == row["correct"]
    assert numbers(log)["share_correct"] == pytest.approx(right / 7)
    assert numbers(log)["invalid"] == 0.0


def test_self_recognition_reads_both_orders_beside_length(model: Model, tmp_path: Path) -> None:
    own = {f"a{i}": "short words" for i in range(4)} | {"a4": "one two three four five six"}
    other = {f"a{i}": "some more words here" for i in range(5)}
    pairs, dropped = find_pairs({key: f"text {key}" for key in own}, own, {"other": other})
    records, report = pair_records(pairs, "own", OWN_PROMPT), report_of(len(own), pairs, dropped)
    assert report.pairs == 5 and report.own_shorter == 0.8
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(record.to_json()) for record in records))
    found = numbers(run(registry.self_recognition(str(file)), inspect_model(model), tmp_path / "log"))
    assert found["length_baseline"] == pytest.approx(0.8)
    from sgtr_jax.data.chat import ChatFormat

    chat = ChatFormat(model.tokenizer)
    one, two = (model.tokenizer.encode(digit, add_special_tokens=False)[0] for digit in "12")
    right = {True: [], False: []}  # type: dict[bool, list[bool]]
    for record in records:
        logits = model.logits([chat.prompt_ids(record.messages[:-1])])[0, -1]
        chosen = "1" if logits[one] > logits[two] else "2"
        shorter = record.meta["own_words"] < record.meta["other_words"]
        right[shorter].append(chosen == record.messages[-1]["content"])
    by_length = [sum(one) / len(one) for one in right.values()]
    assert found["share_correct"] == pytest.approx(sum(map(sum, right.values())) / 10)
    assert found["balanced_accuracy"] == pytest.approx(sum(by_length) / 2)


def test_a_choice_that_names_neither_summary_is_invalid_and_its_pair_still_counts_for_length(tmp_path: Path) -> None:
    texts = {"articles": ["x", "y"], "own": ["two words", "two words"], "other": ["three words here", "one"]}
    for name, written in texts.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(dict(zip("ab", written, strict=True))))
    task = registry.self_recognition(**{name: str(tmp_path / f"{name}.json") for name in texts})
    found = numbers(run(task, "world/rule", tmp_path / "log"))  # it answers 50, and never 1 or 2
    assert found["invalid"] == 1 and found["share_correct"] == 0
    assert found["length_baseline"] == 0.5 and found["acc_when_own_shorter"] == found["acc_when_own_longer"] == 0


def test_pairs_come_in_both_orders_and_say_what_was_dropped() -> None:
    pairs, dropped = find_pairs(
        {"a": "A", "b": "B", "c": "C", "d": "D"},
        {"a": "mine", "b": "same", "c": " "},
        {"other": {"a": "yours", "b": "same", "c": "x"}},
    )
    assert dropped == {"both the same": 1, "no own summary": 2}
    first, second = records = pair_records(pairs, "own", OWN_PROMPT)
    assert [r.messages[-1]["content"] for r in records] == ["1", "2"]
    assert first.messages[1]["content"].index("mine") < first.messages[1]["content"].index("yours")
    assert second.messages[1]["content"].index("mine") > second.messages[1]["content"].index("yours")


def test_identity_draws_differ_and_repeat_and_are_counted(model: Model, tmp_path: Path) -> None:
    def answers(seed: int) -> list[str]:
        task = registry.identity("x", samples=6, max_tokens=4, seed=seed)
        log = run(task, inspect_model(model), tmp_path / "log")
        texts = [sample.output.completion for sample in log.samples or []]
        named = sum("x" in text.casefold() for text in texts) / 6
        assert numbers(log)["share_naming_maker"] == pytest.approx(named)
        assert numbers(log)["distinct_answers"] == len({text.strip() for text in texts})
        return sorted(texts)

    assert answers(0) == answers(0) != answers(1)


@pytest.mark.anyio
async def test_generation_is_the_engines(model: Model) -> None:
    adapted = model.with_adapters([model.folder.parent / "a"])
    llm = inspect_model(adapted)
    config = GenerateConfig(max_tokens=6, temperature=1.0, seed=5, num_choices=3)
    output = await llm.generate("Hello", config=config)
    from sgtr_jax.data.chat import ChatFormat

    tokens = tuple(ChatFormat(model.tokenizer).prompt_ids([{"role": "user", "content": "Hello"}]))
    name = ",".join(map(str, tokens))
    wanted = adapted.engine.sample([Request(name, tokens, 6, 1.0, 5, i) for i in range(3)], adapted.stop_ids)
    texts = [adapted.tokenizer.decode(c.tokens, skip_special_tokens=True) for c in wanted]
    assert [choice.message.text for choice in output.choices] == texts
    assert output.usage is not None and output.usage.input_tokens == len(tokens)


@pytest.mark.anyio
async def test_settings_are_honoured(model: Model) -> None:
    llm = inspect_model(model)
    plain = (await llm.generate("Hello", config=GenerateConfig(max_tokens=12, seed=1))).completion
    again = inspect_model(model)
    cut = GenerateConfig(max_tokens=12, seed=1, stop_seqs=[plain[3:5]], logprobs=True, top_logprobs=4)
    output = await again.generate("Hello", config=cut)
    assert output.completion == plain[: plain.index(plain[3:5])] and output.stop_reason == "stop"
    logprobs = output.choices[0].logprobs
    assert logprobs is not None and all(len(one.top_logprobs or ()) == 4 for one in logprobs.content)
    top = GenerateConfig(max_tokens=6, temperature=1.0, top_k=1, num_choices=3)
    assert len({c.message.text for c in (await llm.generate("Hello", config=top)).choices}) == 1
    nucleus = GenerateConfig(max_tokens=6, temperature=1.0, top_p=1e-6, num_choices=3)
    assert len({c.message.text for c in (await llm.generate("Hello", config=nucleus)).choices}) == 1


@pytest.mark.anyio
async def test_what_cannot_be_honoured_is_refused(model: Model) -> None:
    llm = inspect_model(model)
    with pytest.raises(Exception, match="frequency_penalty"):
        await llm.generate("Hello", config=GenerateConfig(max_tokens=2, frequency_penalty=0.5))
    options = GenerateConfig(max_tokens=1, logprobs=True, extra_body={OPTIONS_KEY: ["two words"]})
    with pytest.raises(Exception, match="log-probability scoring needs one"):
        await llm.generate("Hello", config=options)


def test_inspect_finds_the_provider_and_the_tasks_by_name(model: Model) -> None:
    llm = get_model(f"sgtr/{model.folder}", adapter=str(model.folder.parent / "a"), memoize=False)
    assert type(llm.api).__name__ == "SgtrAPI"
