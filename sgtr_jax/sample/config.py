"""Settings of sampling: how chat text is formed, how tokens are drawn, and on what it runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from sgtr_jax.config import Config, DType, PositiveInt
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.mesh import MeshConfig


class SampleConfig(Config):
    """How chat text is formed and in which precision the model runs."""

    dtype: DType = "float32"
    # default: what the template does by itself; none: no system block; any other text stands in its place.
    system: str = "default"
    thinking_budget: int | None = None  # Seed-OSS's template: 0 closes the think block, null lets it think
    merge: Literal["bfloat16"] | None = None  # all adapters but the last are merged first, as `sgtr train merge=` did

    def chat(self, tokenizer: Any) -> ChatFormat:
        """The chat format of a tokenizer under these settings."""
        kwargs = {} if self.thinking_budget is None else {"thinking_budget": self.thinking_budget}
        return ChatFormat(tokenizer, self.system, kwargs)


class Cuts(Config):
    """What a draw is cut to, when a row ends, and what is said about it."""

    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # 1: no nucleus
    top_k: Annotated[int, Field(ge=0)] = 0  # 0: all
    stop: tuple[str, ...] = ()  # texts before which a completion is cut
    stop_ids: tuple[Annotated[int, Field(ge=0)], ...] = ()  # besides the model's own end-of-turn tokens
    logprobs: Annotated[int, Field(ge=0, le=100)] | None = None  # k likeliest tokens beside each; null: none

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("an empty text would stop every completion at once")
        return stop


class DrawConfig(Cuts):
    """How the tokens of a row are drawn."""

    max_tokens: PositiveInt = 256
    temperature: Annotated[float, Field(ge=0)] = 1.0  # 0 is greedy
    seed: Annotated[int, Field(ge=0)] = 0


class SampleCommand(SampleConfig, Cuts):
    """Settings of `sgtr sample` that have no flag of their own."""

    batch_rows: PositiveInt | None = None  # rows at once; null: as many as memory holds, 256 at most
    share_prefixes: bool = True  # long common beginnings of prompts are run once
    mesh: MeshConfig | None = None  # null: all devices, weights split as memory asks

    def draws(self, max_tokens: int, temperature: float, seed: int) -> DrawConfig:
        """These settings with those that are flags."""
        cuts = {name: getattr(self, name) for name in Cuts.model_fields}
        return DrawConfig(max_tokens=max_tokens, temperature=temperature, seed=seed, **cuts)
