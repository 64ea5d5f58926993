"""Tells the count of costs about every request that Inspect sends."""

from __future__ import annotations

from inspect_ai.hooks import Hooks, ModelUsageData, hooks

from sgtr_eval.judging.budget import Costs


@hooks(name="sgtr_costs", description="Dollars of every request that went out")
class CostHook(Hooks):
    """Counts requests. Inspect calls it for each that was answered by a server, not for replies from its cache."""

    async def on_model_usage(self, data: ModelUsageData) -> None:
        """A request was answered."""
        Costs.count(data.model_name, data.usage)
