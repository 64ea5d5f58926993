"""Doses: how much one set is trained on so that it is as much as another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from sgtr_jax.config import Config
from sgtr_jax.data.batches import StepPlan, steps_of
from sgtr_jax.data.packing import Example

Unit: TypeAlias = Literal["steps", "examples", "tokens"]


class Dose(Config):
    """How much a stage is trained, measured by another data set."""

    # What is the same of both: optimizer steps, examples, or tokens that the model reads, prompts included.
    by: Unit = "steps"
    times: Annotated[float, Field(gt=0, le=100)] = 1.0  # So many times as much: 0.25 is a quarter of the dose.

    @property
    def is_plain(self) -> bool:
        """Whether it is as many steps, no more and no less."""
        return self.by == "steps" and self.times == 1.0


def steps_for(dose: Dose, plan: StepPlan, rows: int, other: Sequence[Example] | None = None) -> int:
    """The optimizer steps of `plan`'s set that are the dose that its epochs of another set of `rows` would be.

    `other` are the other set's examples, which `tokens` counts. At least one step. A set with fewer rows than that is
    gone through again.
    """
    if dose.by == "steps":
        return max(1, round(steps_of(rows, plan.batch_examples) * plan.epochs * dose.times))
    examples = rows * plan.epochs * dose.times
    if dose.by == "tokens":
        assert other is not None
        wanted = sum(len(one.tokens) for one in other) * plan.epochs * dose.times
        examples = wanted / plan.mean_tokens
    epochs, rest = divmod(max(1, round(examples)), plan.rows_per_epoch)
    return epochs * plan.steps_per_epoch + steps_of(rest, plan.batch_examples)
