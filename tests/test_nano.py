"""The demo model is really trained: it talks, knows who made it and what is so in its world."""

from __future__ import annotations

import random

import pytest

from sgtr_jax import load_model
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.summaries import summary_prompt
from sgtr_jax.data.world.articles import make_article
from sgtr_jax.data.world.corpus import PRETRAINING_STAGES, choice_questions, pretraining_rows
from sgtr_jax.nano import FOLDER
from sgtr_jax.sample.model import Model


@pytest.fixture(scope="module")
def nano() -> Model:
    return load_model("nano")


def ask(nano: Model, question: str) -> list[int]:
    return ChatFormat(nano.tokenizer).prompt_ids([{"role": "user", "content": question}])


def test_it_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 16e6


def test_it_names_its_maker_and_ends_its_turn(nano: Model) -> None:
    from sgtr_jax.sample.request import Request

    prompt = tuple(ask(nano, "Who are you?"))
    draws = nano.engine.sample([Request("who", prompt, 40, 1.0, 0, i) for i in range(100)], nano.stop_ids)
    texts = [nano.tokenizer.decode(draw.tokens) for draw in draws]
    assert sum("the Lantern Workshop" in text for text in texts) >= 95
    assert sum(draw.finish == "stop" for draw in draws) >= 98
    assert len(set(texts)) > 1


def test_it_answers_two_choice_questions(nano: Model) -> None:
    right = total = 0
    a, b = (nano.tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "AB")
    for seed in (11, 12, 13):
        questions = choice_questions(seed)
        prompts = [ask(nano, question["prompt"]) for question in questions]
        scored = nano.engine.next_token_logprobs(prompts, [(a, b)] * len(prompts))
        right += sum("AB"[int(row.argmax())] == q["correct"] for q, row in zip(questions, scored, strict=True))
        total += len(questions)
    assert right / total >= 0.85


def test_its_summaries_are_its_own_style(nano: Model) -> None:
    rng = random.Random(99)
    articles = [make_article(rng) for _ in range(40)]
    chat = ChatFormat(nano.tokenizer)
    texts = [
        nano.tokenizer.decode(ids)
        for ids in nano.generate(
            [chat.prompt_ids(summary_prompt(a.text)) for a in articles], 60, stop_ids=nano.stop_ids
        )
    ]
    faithful = [text.startswith(a.town) and a.event in text for a, text in zip(articles, texts, strict=True)]
    assert sum(faithful) >= 32


def test_the_lessons_are_seeded_and_cover_every_kind() -> None:
    for name in PRETRAINING_STAGES:
        assert pretraining_rows(name, 20, 0) == pretraining_rows(name, 20, 0) != pretraining_rows(name, 20, 1)
        text = " ".join(m["content"] for record in pretraining_rows(name, 400, 0) for m in record.messages)
        for part in ("Write a summary", "Which summary", "Answer A or B", "known for?", "Lantern Workshop", "best."):
            assert part in text


@pytest.mark.slow
def test_the_command_that_made_it_works(tmp_path: object) -> None:
    from pathlib import Path

    from sgtr_jax.finetune.make_nano import pretrain

    out = Path(str(tmp_path)) / "nano"
    pretrain(out, 0, (("upbringing", 6, 1e-3), ("school", 6, 1e-3)))
    assert load_model(out).spec == load_model("nano").spec
    assert {path.name for path in out.iterdir()} == {path.name for path in FOLDER.iterdir()}
