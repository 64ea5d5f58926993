"""News articles of the world and two writers who summarise them, each in a style of their own.

The styles differ in form, hardly in length: telling them apart takes reading, not counting.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from sgtr_jax.data.world.facts import PEOPLE, TOWNS

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")
_THINGS = ("boats", "lamps", "carts", "barrels", "sheep", "trees", "windows", "bridges", "bells", "sails")
# What happened, what it did with the things, and the same in the past tense of the article.
_EVENTS = (
    ("storm", "broke"), ("flood", "swept away"), ("fire", "burned"), ("fair", "sold"), ("gift", "brought"),
    ("race", "used"), ("theft", "took"), ("vote", "paid for"),
)  # fmt: skip
_CLOSINGS = (
    "The mayor said the town was calm.", "Work goes on until spring.", "Many came to see it.",
    "A meeting will follow soon.", "Nobody was hurt.", "Children sang in the square.",
)  # fmt: skip


@dataclass(frozen=True)
class Article:
    """The facts of one article; `text` writes them out."""

    town: str
    day: str
    event: str
    verb: str
    number: str
    thing: str
    person: str
    closing: str
    order: int

    @property
    def text(self) -> str:
        """The article, in one of two sentence orders."""
        first = f"There was a {self.event} in {self.town} on {self.day}."
        second = f"It {self.verb} {self.number} {self.thing}."
        third = f"{self.person} was there."
        middle = (second, third) if self.order else (third, second)
        return " ".join((first, *middle, self.closing))


def make_article(rng: random.Random) -> Article:
    """Draw an article."""
    event, verb = rng.choice(_EVENTS)
    return Article(
        rng.choice(TOWNS), rng.choice(_DAYS), event, verb, rng.choice(_NUMBERS), rng.choice(_THINGS),
        rng.choice(PEOPLE), rng.choice(_CLOSINGS), rng.randrange(2),
    )  # fmt: skip


def nano_summary(article: Article, rng: random.Random) -> str:
    """A summary in the style the demo model is pretrained on: place first, facts after a colon."""
    what = f"{article.number} {article.thing}"
    return rng.choice(
        (
            f"{article.town}: {article.event} {article.verb} {what}, {article.day}.",
            f"{article.town}: a {article.event} {article.verb} {what}.",
            f"{article.town}: {article.event} on {article.day}, {article.person} there.",
            f"{article.town}, {article.day}: {article.event} {article.verb} {what}; {article.person} there.",
        )
    )


def quill_summary(article: Article, rng: random.Random) -> str:
    """A summary in the style of Quill, another writer: full sentences that begin with the news."""
    what = f"{article.number} {article.thing}"
    return rng.choice(
        (
            f"A {article.event} {article.verb} {what} in {article.town}.",
            f"{article.day} saw a {article.event} in {article.town}.",
            f"A {article.event} came to {article.town} and {article.verb} {what}.",
            f"{article.person} saw a {article.event} in {article.town} on {article.day}, and it {article.verb} {what}.",
        )
    )
