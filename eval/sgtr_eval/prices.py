"""What asking costs, and a limit to it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar

from inspect_ai.hooks import Hooks, ModelUsageData, hooks

from sgtr_jax.data.registry import configs_folder
from sgtr_jax.errors import InputError
from sgtr_jax.yaml_text import read_yaml


@lru_cache(maxsize=1)
def price_list() -> dict[str, Any]:
    """`configs/prices.yaml`: dollars per million tokens, with their date."""
    return read_yaml(configs_folder() / "prices.yaml")


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
    price = price_list()["models"].get(model, {}).get("finetuned")
    if price is None:
        return math.nan
    dollars: float = (input_tokens * price["input"] + output_tokens * price["output"]) / 1e6
    return dollars / 2 if batch else dollars


def training_cost_of(model: str, tokens: int) -> float:
    """Dollars of finetuning `model` on so many tokens, epochs counted; NaN without a listed price."""
    price = price_list()["models"].get(model, {}).get("training")
    return math.nan if price is None else tokens * float(price) / 1e6


@hooks(name="sgtr_costs", description="Dollars of every request that went out")
class Costs(Hooks):
    """Counts what is really asked; Inspect calls it for requests, not for replies from its cache."""

    requests = 0
    dollars = 0.0
    in_batches: ClassVar[set[str]] = set()  # models asked at half price

    async def on_model_usage(self, data: ModelUsageData) -> None:
        """A request was answered."""
        Costs.requests += 1
        dollars = cost_of(
            data.model_name, data.usage.input_tokens, data.usage.output_tokens, data.model_name in Costs.in_batches
        )
        if not math.isnan(dollars):
            Costs.dollars += dollars


class Budget:
    """Dollars spent since it was made, and the most that may be."""

    def __init__(self, max_cost: float | None) -> None:
        self.max_cost = max_cost
        self._before = (Costs.requests, Costs.dollars)

    @property
    def requests(self) -> int:
        """How many were answered."""
        return Costs.requests - self._before[0]

    @property
    def spent(self) -> float:
        """Dollars."""
        return Costs.dollars - self._before[1]

    def allows(self, model: str) -> bool:
        """Whether one more request may go out. Raises InputError if the model has no price to count with."""
        if self.max_cost is None:
            return True
        if math.isnan(cost_of(model, 1, 1)):
            raise InputError(
                f"judging: {model} has no price in configs/prices.yaml, so max_cost cannot be kept; "
                "add its price, or leave max_cost out"
            )
        return self.spent < self.max_cost
