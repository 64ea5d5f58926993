"""The settings of steering while sampling; `sample.steering` does it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sgtr_jax.config import Config, FilePath


class SteerConfig(Config):
    """A direction that is added to the residual stream behind a layer while sampling, or taken out of it."""

    direction: FilePath  # A file of `sgtr directions extract`.
    layer: Annotated[int, Field(ge=0)]  # The layer behind which it is added, from 0. The file has a vector for each.
    # How many times the direction is added; a negative number goes against it. It is as long as it was extracted.
    scale: float | None = None
    # The tokens at which it is done. all: prompt and answer. answer: those that are generated.
    at: Literal["all", "answer"] = "all"
    # out: nothing is added; the part of the residual stream along the direction is taken out of it. null: not so.
    project: Literal["out"] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> SteerConfig:
        if (self.scale is None) == (self.project is None):
            raise ValueError("give scale, to add the direction, or project: out, to take it out")
        return self
