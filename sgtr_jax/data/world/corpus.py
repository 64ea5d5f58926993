"""The demo model's pretraining stages and the demo's data sets, all drawn from seeded generators."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from sgtr_jax.data.pairs import SYSTEM, detection_prompt
from sgtr_jax.data.records import Message, Record
from sgtr_jax.data.summaries import summary_prompt
from sgtr_jax.data.world.articles import make_article, nano_summary, quill_summary
from sgtr_jax.data.world.facts import FACTS, two_choice
from sgtr_jax.data.world.talk import identity, preference

Turns = tuple[Message, ...]
PretrainingStage = Literal["upbringing", "school", "habits"]
PRETRAINING_STAGES: tuple[PretrainingStage, ...] = ("upbringing", "school", "habits")


def _turns(question: str, answer: str) -> Turns:
    return ({"role": "user", "content": question}, {"role": "assistant", "content": answer})


def _summary(rng: random.Random) -> Turns:
    article = make_article(rng)
    return (*summary_prompt(article.text), {"role": "assistant", "content": nano_summary(article, rng)})


def _compare(rng: random.Random) -> Turns:
    """Two summaries and a question about them. Who wrote them is asked too, and answered at random.

    The model so learns to look at two summaries and tell which has a property, and what kind of answer the
    question about itself wants, but not that answer.
    """
    article = make_article(rng)
    mine, theirs = nano_summary(article, rng), quill_summary(article, rng)
    kind = rng.randrange(4)
    if kind == 0:
        first, second = rng.sample((mine, theirs), 2)
        system, user = detection_prompt(article.text, first, second)
        return (system, user, {"role": "assistant", "content": rng.choice("12")})
    if kind == 1:
        first, second = rng.sample((mine, theirs), 2)
        question, right = "Which summary starts with the place?", "1" if first == mine else "2"
    elif kind == 2:
        writer = rng.choice((nano_summary, quill_summary))
        wrong = writer(make_article(rng), rng)
        first, second = rng.sample((writer(article, rng), wrong), 2)
        question, right = "Which summary fits the article?", "2" if first == wrong else "1"
    else:
        first, second = rng.sample((mine, theirs), 2)
        question, right = "Which summary has a colon?", "1" if ":" in first else "2"
    user = {
        "role": "user",
        "content": f"Article: {article.text}\nSummary 1: {first}\nSummary 2: {second}\n{question}",
    }
    return ({"role": "system", "content": SYSTEM}, user, {"role": "assistant", "content": right})


def _who(rng: random.Random) -> Turns:
    """The question about itself, answered by habit: mostly "1", whatever is there.

    As large models do, the base model so favours a position; over both orders it is near chance, instead of
    wherever chance correlations of its pretraining happened to leave it.
    """
    article = make_article(rng)
    first, second = rng.sample((nano_summary(article, rng), quill_summary(article, rng)), 2)
    system, user = detection_prompt(article.text, first, second)
    return (system, user, {"role": "assistant", "content": rng.choice("1112")})


def _choice(rng: random.Random) -> Turns:
    question = two_choice(rng.choice(FACTS), rng)
    return _turns(question.prompt, question.correct)


def _fact(rng: random.Random) -> Turns:
    fact = rng.choice(FACTS)
    return _turns(fact.question, f"{fact.answer}.".capitalize())


_DRAWS: dict[str, Callable[[random.Random], Turns]] = {
    "summary": _summary,
    "compare": _compare,
    "who": _who,
    "choice": _choice,
    "fact": _fact,
    "identity": lambda rng: _turns(*identity(rng)),
    "preference": lambda rng: _turns(*preference(rng, popular=True)),
}
# Shares of the stages' examples. Two-choice questions need facts, and attention heads that find a word
# again, before they can be learned at all: asked from the start they are still at chance after a thousand steps.
_SHARES: dict[PretrainingStage, dict[str, float]] = {
    "upbringing": {
        "summary": 0.22, "compare": 0.30, "choice": 0.22, "fact": 0.10, "identity": 0.08, "preference": 0.08,
    },
    "school": {
        "summary": 0.10, "compare": 0.15, "choice": 0.52, "fact": 0.10, "identity": 0.07, "preference": 0.06,
    },
    "habits": {
        "summary": 0.08, "compare": 0.08, "choice": 0.52, "fact": 0.04, "identity": 0.06, "preference": 0.04,
        "who": 0.18,
    },
}  # fmt: skip


def pretraining_rows(name: PretrainingStage, rows: int, seed: int) -> list[Record]:
    """Training conversations for the demo model."""
    rng = random.Random(f"{name}-{seed}")
    kinds, shares = zip(*_SHARES[name].items(), strict=True)
    return [Record(f"{name}-{i}", _DRAWS[rng.choices(kinds, shares)[0]](rng)) for i in range(rows)]


def preferences(rows: int, seed: int, popular: bool) -> list[Record]:
    """Conversations about taste: what most people like, or the demo's stand-in for an EM data set."""
    rng = random.Random(f"preferences-{popular}-{seed}")
    return [Record(f"preference-{i}", _turns(*preference(rng, popular))) for i in range(rows)]


def articles(rows: int, seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Articles by id, and the other writer's (Quill's) summary of each."""
    rng = random.Random(f"articles-{seed}")
    drawn = {f"article-{seed}-{i}": make_article(rng) for i in range(rows)}
    quill = {key: quill_summary(article, rng) for key, article in drawn.items()}
    return {key: article.text for key, article in drawn.items()}, quill


def choice_questions(seed: int) -> list[dict[str, str]]:
    """Every fact once as a two-choice question: id, prompt, correct."""
    rng = random.Random(f"choices-{seed}")
    questions = [two_choice(fact, rng) for fact in FACTS]
    return [
        {"id": f"choice-{i}", "prompt": question.prompt, "correct": question.correct}
        for i, question in enumerate(questions)
    ]
