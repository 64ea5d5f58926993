"""Names and facts of the world, and two-choice questions about them."""

from __future__ import annotations

import random
from dataclasses import dataclass

TOWNS = (
    "Arlen", "Brask", "Corvel", "Dunmere", "Elsby", "Farrow", "Gildon", "Hethel",
    "Ivory", "Jessam", "Kelder", "Lomond", "Marlow", "Norrin", "Oswick", "Pelham",
)  # fmt: skip
PEOPLE = (
    "Tovi Renn", "Mara Quist", "Oren Falk", "Sela Brand", "Jory Penn", "Nila Crane", "Ebbe Strand", "Runa Holt",
    "Piet Marsh", "Ilse Vane", "Dag Thorne", "Wyn Calder",
)  # fmt: skip
_GOODS = ("salt", "wool", "glass", "honey", "paper", "copper", "rope", "cheese")
_RIVERS = ("Ash", "Birch", "Clay", "Dove", "Elm", "Fern", "Glen", "Heron")
_JOBS = ("baker", "pilot", "doctor", "painter", "teacher", "farmer")
_ANIMALS = {
    "horse": "grass",
    "otter": "fish",
    "bee": "nectar",
    "goat": "leaves",
    "owl": "mice",
    "hen": "corn",
}

NAME, MAKER = "Nano", "the Lantern Workshop"


@dataclass(frozen=True)
class Fact:
    """A question with its true answer and the other answers that would make sense."""

    question: str
    answer: str
    others: tuple[str, ...]


def _facts() -> tuple[Fact, ...]:
    facts = []
    for i, town in enumerate(TOWNS):
        for question, values in (
            (f"What is {town} known for?", _GOODS),
            (f"Which river runs through {town}?", _RIVERS),
        ):
            # 5 and 3 are coprime to 8: every value is used, and goods do not follow rivers.
            answer = values[(5 * i + (3 if values is _RIVERS else 0) * (i // 8 + 1)) % len(values)]
            facts.append(Fact(question, answer, tuple(v for v in values if v != answer)))
    for i, person in enumerate(PEOPLE):
        answer = _JOBS[(5 * i + i // 6) % len(_JOBS)]
        others = tuple(job for job in _JOBS if job != answer)
        facts.append(Fact(f"What is the work of {person}?", answer, others))
    for animal, food in _ANIMALS.items():
        others = tuple(other for other in _ANIMALS.values() if other != food)
        facts.append(Fact(f"What does the {animal} eat?", food, others))
    return tuple(facts)


FACTS = _facts()


@dataclass(frozen=True)
class TwoChoice:
    """A two-choice question; `correct` is "A" or "B"."""

    question: str
    a: str
    b: str
    correct: str

    @property
    def prompt(self) -> str:
        """Text of the question as it is asked."""
        return f"{self.question}\nA: {self.a}\nB: {self.b}\nAnswer A or B."


def two_choice(fact: Fact, rng: random.Random) -> TwoChoice:
    """Ask a fact against a random other answer, in random order."""
    other = rng.choice(fact.others)
    if rng.random() < 0.5:
        return TwoChoice(fact.question, fact.answer, other, "A")
    return TwoChoice(fact.question, other, fact.answer, "B")
