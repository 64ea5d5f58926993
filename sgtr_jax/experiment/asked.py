"""A base model, and how it is talked to: what decides its answers besides its adapters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sgtr_jax.json_types import Json
from sgtr_jax.sample.config import SampleConfig


def api_model_name(model: str) -> str | None:
    """The provider's name of `openai/NAME`; None for a model of ours."""
    return model.removeprefix("openai/") if model.startswith("openai/") else None


@dataclass(frozen=True)
class Base:
    """A base model by name, and a digest of its weights, or where it is served."""

    model: str
    fingerprint: str

    @property
    def is_api(self) -> bool:
        """Whether it is behind an API."""
        return api_model_name(self.model) is not None

    def identity(self) -> dict[str, Json]:
        """What decides which model it is, as JSON."""
        return {"model": self.model, "model_fingerprint": self.fingerprint}


@dataclass(frozen=True)
class Asked:
    """A base model with the settings under which it is sampled. Behind an API only the system prompt is one."""

    base: Base
    sampling: SampleConfig

    @property
    def system(self) -> str:
        """The system prompt. An API puts in no message of its own: "default" and "none" are the same there."""
        is_none = self.base.is_api and self.sampling.system == "default"
        return "none" if is_none else self.sampling.system

    @property
    def merge(self) -> Literal["bfloat16"] | None:
        """Whether and how adapters below the last one are merged."""
        return self.sampling.merge

    def identity(self) -> dict[str, Json]:
        """Everything that decides the answers, as JSON."""
        return dict(self._identity)

    @cached_property
    def _identity(self) -> dict[str, Json]:
        own: dict[str, Json] = {"system": self.system} if self.base.is_api else self.sampling.identity()
        return {**self.base.identity(), **own}
