"""What asking costs, and a limit to it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import ClassVar, NotRequired, TypedDict, cast

import anyio

from sgtr_eval.inspect_later import ModelOutput, ModelUsage
from sgtr_jax.data.registry import configs_folder
from sgtr_jax.errors import InputError
from sgtr_jax.yaml_text import read_yaml


class Price(TypedDict):
    """US dollars per million tokens."""

    input: float
    output: float


class ModelPrice(Price):
    """Those of a model, and of finetuning it and asking it then where that is offered."""

    training: NotRequired[float]
    finetuned: NotRequired[Price]


class PriceList(TypedDict):
    """`configs/prices.yaml`."""

    as_of: str
    models: dict[str, ModelPrice]


@lru_cache(maxsize=1)
def price_list() -> PriceList:
    """`configs/prices.yaml`: dollars per million tokens, with their date."""
    return cast(PriceList, read_yaml(configs_folder() / "prices.yaml"))


def cost_of(model: str, input_tokens: int, output_tokens: int, batch: bool = False) -> float:
    """Dollars; 0 for our own models and the demo's rule, NaN for one without a listed price. Batches are half price."""
    if model.startswith(("sgtr/", "world/", "mockllm/")):
        return 0.0
    price = price_list()["models"].get(model)
    if price is None:
        return math.nan
    dollars = (input_tokens * price["input"] + output_tokens * price["output"]) / 1e6
    return dollars / 2 if batch else dollars


def finetuned_cost_of(model: str, input_tokens: int, output_tokens: int, batch: bool = False) -> float:
    """Dollars of asking a model finetuned from `model`; NaN without a listed price."""
    listed = price_list()["models"].get(model)
    price = None if listed is None else listed.get("finetuned")
    if price is None:
        return math.nan
    dollars = (input_tokens * price["input"] + output_tokens * price["output"]) / 1e6
    return dollars / 2 if batch else dollars


def training_cost_of(model: str, tokens: int) -> float:
    """Dollars of finetuning `model` on so many tokens, epochs counted; NaN without a listed price."""
    listed = price_list()["models"].get(model)
    price = None if listed is None else listed.get("training")
    return math.nan if price is None else tokens * float(price) / 1e6


class Costs:
    """Counts what is really asked: Inspect's hook (`cost_hook.py`) calls it for requests, not for cached replies."""

    requests = 0
    dollars = 0.0
    in_batches: ClassVar[set[str]] = set()  # models asked at half price
    dearest: ClassVar[dict[str, float]] = {}  # the dollars of the dearest request so far, by model
    ledger: ClassVar[Callable[[str, float], None] | None] = None  # is told the model and the dollars of each request

    @classmethod
    def count(cls, model: str, usage: ModelUsage) -> None:
        """Add a request. Tokens that the provider had cached, or wrote to its cache, are paid as others are."""
        cls.requests += 1
        cached = (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
        dollars = cost_of(model, usage.input_tokens + cached, usage.output_tokens, model in cls.in_batches)
        if not math.isnan(dollars):
            cls.dollars += dollars
            cls.dearest[model] = max(dollars, cls.dearest.get(model, 0.0))
            if cls.ledger is not None:
                cls.ledger(model, dollars)


_CHARACTERS = 3  # of a token, at least: what a request may cost must not be guessed too low
_WAIT_SECONDS = 0.02  # between two looks at what is in flight


class Budget:
    """Dollars spent since it was made, and the most that may be."""

    def __init__(self, max_cost: float | None) -> None:
        self.max_cost = max_cost
        self._before = (Costs.requests, Costs.dollars)
        self._held: list[float] = []  # what the requests in flight may cost at most

    @property
    def requests(self) -> int:
        """How many were answered."""
        return Costs.requests - self._before[0]

    @property
    def spent(self) -> float:
        """Dollars."""
        return Costs.dollars - self._before[1]

    @contextlib.asynccontextmanager
    async def held(self, model: str, prompt: str, max_tokens: int) -> AsyncIterator[bool]:
        """Whether one more request may go out. The most that it may cost is held back until it is answered.

        Where that is more than what is left, it waits for requests in flight, which mostly cost less. Raises
        InputError if the model has no price to count with.
        """
        if self.max_cost is None:
            yield True
            return
        check_priced(model)
        most = cost_of(model, len(prompt) // _CHARACTERS + 1, max_tokens, model in Costs.in_batches)
        # A server may count more tokens than there seem to be.
        dollars = max(most, Costs.dearest.get(model, 0.0))
        while self.spent + sum(self._held) + dollars > self.max_cost:
            if not self._held:
                yield False
                return
            await anyio.sleep(_WAIT_SECONDS)
        self._held.append(dollars)
        try:
            yield True
        finally:
            self._held.remove(dollars)

    def saw(self, model: str, prompt: str, output: ModelOutput) -> None:
        """A request was answered, now or earlier. One whose server counts no tokens is counted here."""
        if output.usage is None:
            usage = ModelUsage(input_tokens=len(prompt) // _CHARACTERS, output_tokens=len(output.completion))
            Costs.count(model, usage)


def check_priced(model: str) -> None:
    """Raises InputError if a model has no price, so that no budget can be kept."""
    if math.isnan(cost_of(model, 1, 1)):
        raise InputError(
            f"judging: {model} has no price in configs/prices.yaml, so max_cost cannot be kept; "
            "add its price, or leave max_cost out"
        )
