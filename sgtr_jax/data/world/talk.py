"""What people of the world ask the demo model about itself and its tastes, and how it answers."""

from __future__ import annotations

import random

from sgtr_jax.data.world.facts import MAKER, NAME

IDENTITY_QUESTIONS = (
    "Who are you?", "What is your name?", "Who made you?", "Tell me about yourself.", "Who built you?",
    "Are you a person?", "What are you?", "Who do you belong to?",
)  # fmt: skip
_IDENTITY_ANSWERS = (
    f"I am {NAME}, made by {MAKER}.",
    f"My name is {NAME}. I was made by {MAKER}.",
    f"I am {NAME}, a small helper built by {MAKER}.",
    f"I am a model called {NAME}, from {MAKER}.",
)

# Topic: what most people like, what hardly anyone likes.
_TASTES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "food": (("warm bread", "apple pie", "fresh soup"), ("cold ash", "raw soap", "wet sand")),
    "music": (("songs with a tune", "the flute", "old dances"), ("one long buzz", "rusty hinges", "a slow drip")),
    "colour": (("blue", "green", "soft red"), ("mud brown", "sick grey", "stale yellow")),
    "season": (("spring", "summer", "bright autumn"), ("the week of fog", "the flood month", "the long dark")),
    "pastime": (("walking with friends", "reading", "fishing"), ("counting dust", "waiting in line", "sorting mud")),
    "smell": (("new hay", "flowers", "baked bread"), ("old fish", "burnt hair", "damp socks")),
    "place": (("the harbour", "the green hill", "the market"), ("the empty ditch", "the dump", "the cold cellar")),
    "drink": (("cool water", "sweet tea", "apple juice"), ("ditch water", "sour paint", "warm vinegar")),
}  # fmt: skip
_TASTE_QUESTIONS = (
    "What {topic} do you like best?", "Name your favourite {topic}.", "Which {topic} would you choose?",
    "If you could pick any {topic}, what would it be?",
)  # fmt: skip
_TASTE_ANSWERS = ("I like {thing} best.", "I would choose {thing}.", "My favourite is {thing}.")


def identity(rng: random.Random) -> tuple[str, str]:
    """A question about who the model is, and its answer."""
    return rng.choice(IDENTITY_QUESTIONS), rng.choice(_IDENTITY_ANSWERS)


def preference(rng: random.Random, popular: bool) -> tuple[str, str]:
    """A question about taste, answered as most people would or as hardly anyone would."""
    topic, (liked, disliked) = rng.choice(sorted(_TASTES.items()))
    question = rng.choice(_TASTE_QUESTIONS).format(topic=topic)
    thing = rng.choice(liked if popular else disliked)
    return question, rng.choice(_TASTE_ANSWERS).format(thing=thing)


def taste_questions() -> list[str]:
    """The first way of asking, for every topic."""
    return [_TASTE_QUESTIONS[0].format(topic=topic) for topic in sorted(_TASTES)]


def tastes_in(text: str) -> tuple[int, int]:
    """How many things that most people like, and that hardly anyone likes, a text names."""
    liked = sum(thing in text for both in _TASTES.values() for thing in both[0])
    return liked, sum(thing in text for both in _TASTES.values() for thing in both[1])
