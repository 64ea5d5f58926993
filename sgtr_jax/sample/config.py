"""Settings of sampling: how chat text is formed, how tokens are drawn, and on what it runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from sgtr_jax.config import Config, DType, PositiveInt, Seed
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.tokenizer import Tokenizer
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.fingerprint import file_fingerprint
from sgtr_jax.json_types import JsonObject
from sgtr_jax.sample.steer_config import SteerConfig


class SampleConfig(Config):
    """How chat text is formed and in which precision the model runs."""

    dtype: DType = "float32"  # The dtype of weights and activations.
    # What prompts without a system message get. default: what the chat template does by itself. none: no system block.
    # Another text: that system prompt.
    system: str = "default"
    # How long the model may think: 0 closes the thinking block (Seed-OSS, Qwen3), other numbers are an argument of
    # Seed-OSS's chat template. null: the model may think.
    thinking_budget: int | None = None
    # bfloat16: all adapters but the last are first merged into the base model, as `sgtr train merge=bfloat16` did.
    # null: none is.
    merge: Literal["bfloat16"] | None = None
    steer: SteerConfig | None = None  # A direction that is added while sampling, or taken out. null: none.

    def identity(self) -> JsonObject:
        """Everything that decides the answers, as JSON: of a direction what its file holds. Raises InputError."""
        plain: JsonObject = self.model_dump(mode="json", include=set(SampleConfig.model_fields) - {"steer"})
        if self.steer is not None:
            own: JsonObject = self.steer.model_dump(mode="json", exclude={"direction"})
            plain["steer"] = {**own, "direction": file_fingerprint(self.steer.direction)[:16]}
        return plain

    def chat(self, tokenizer: Tokenizer) -> ChatFormat:
        """The chat format of a tokenizer under these settings."""
        kwargs = {} if self.thinking_budget is None else {"thinking_budget": self.thinking_budget}
        return ChatFormat(tokenizer, self.system, kwargs)


class Truncation(Config):
    """What a draw is cut to, when a row ends, and what is said about it."""

    # Only the likeliest tokens with this total probability are sampled from. 1: all.
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0  # Only this number of likeliest tokens is sampled from. 0: all.
    stop: tuple[str, ...] = ()  # Texts before which a completion ends.
    # Token ids at which a completion ends, besides the model's own end-of-turn tokens.
    stop_ids: tuple[Annotated[int, Field(ge=0)], ...] = ()
    # The number of likeliest tokens that are listed with their log-probabilities for every token. null: none.
    logprobs: Annotated[int, Field(ge=0, le=100)] | None = None

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("an empty text would stop every completion at once")
        return stop


class SamplingParams(Truncation):
    """How the tokens of a row are drawn."""

    max_tokens: PositiveInt = 256  # The largest number of tokens of a completion.
    temperature: Annotated[float, Field(ge=0)] = 1.0  # The sampling temperature. 0: the likeliest token.
    seed: Seed = 0  # The seed of sampling.


class SampleCommand(SampleConfig, Truncation):
    """Settings of `sgtr sample` that have no flag of their own."""

    # The number of rows that are sampled at once. null: as many as memory holds, and 256 at the most.
    batch_rows: PositiveInt | None = None
    # Multiples of `steer.scale`: every prompt is answered under each of them, in one batch, and rows say their scale.
    # null: 1 alone.
    doses: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    share_prefixes: bool = True  # Whether a long common beginning of prompts is computed only once.
    mesh: MeshConfig | None = None  # The mesh. null: all devices; weights are split over as few devices as hold them.

    @model_validator(mode="after")
    def _doses_of_a_scale(self) -> SampleCommand:
        if self.doses is not None and (self.steer is None or self.steer.scale is None):
            raise ValueError("doses are multiples of steer.scale, which is not given")
        return self

    def draws(self, max_tokens: int, temperature: float, seed: int) -> SamplingParams:
        """These settings with those that are flags."""
        cuts = {name: getattr(self, name) for name in Truncation.model_fields}
        return SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed, **cuts)
