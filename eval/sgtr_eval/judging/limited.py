"""A judge with a budget, for scorers that ask it by themselves."""

from __future__ import annotations

from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelAPI, ModelOutput, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo

from sgtr_eval.judging.budget import Budget
from sgtr_jax.errors import RunError

_USUAL_REPLY = 1024  # tokens, where a scorer sets no limit


@modelapi(name="limited")  # Inspect takes no model that is not registered
class _LimitedAPI(ModelAPI):
    def __init__(self, judge: Model, max_cost: float) -> None:
        super().__init__(str(judge), config=judge.config)
        self._judge, self._budget = judge, Budget(max_cost)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """The judge's reply. Raises RunError where the budget is used up."""
        asked = "\n".join(message.text for message in input)
        async with self._budget.held(str(self._judge), asked, config.max_tokens or _USUAL_REPLY) as allowed:
            if not allowed:
                raise RunError("the budget for judging is used up")
            output = await self._judge.generate(input, tools, tool_choice, config)
            self._budget.saw(str(self._judge), asked, output)
            return output


def limited(judge: Model, max_cost: float) -> Model:
    """The same judge, which raises RunError instead of spending more than `max_cost` US dollars."""
    return Model(_LimitedAPI(judge, max_cost), judge.config)
