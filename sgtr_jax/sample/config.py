"""Settings of sampling beyond the command line's own flags."""

from __future__ import annotations

from typing import Any, Literal

from sgtr_jax.config import Config, DType
from sgtr_jax.data.chat import ChatFormat


class SampleConfig(Config):
    """How chat text is formed and in which precision the model runs."""

    dtype: DType = "float32"
    system: Literal["default", "none"] = "default"
    thinking_budget: int | None = None  # Seed-OSS's template
    merge: Literal["bfloat16"] | None = None  # all adapters but the last are merged first, as `sgtr train merge=` did

    def chat(self, tokenizer: Any) -> ChatFormat:
        """The chat format of a tokenizer under these settings."""
        kwargs = {} if self.thinking_budget is None else {"thinking_budget": self.thinking_budget}
        return ChatFormat(tokenizer, self.system, kwargs)
