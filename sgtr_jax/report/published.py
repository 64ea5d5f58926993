"""Published numbers to compare with, as `published.yaml` holds them."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import NotRequired, TypedDict, cast

import yaml


class PublishedRow(TypedDict):
    """A published mean over seeds of one condition."""

    mean: float
    seeds: int
    se: NotRequired[float | None]  # over seeds, where there are several
    note: NotRequired[str]


class OtherMetric(TypedDict):
    """Published rows of another metric than the primary one, and why ours are not the same quantity."""

    not_comparable: str
    rows: dict[str, PublishedRow]


class PublishedTable(TypedDict):
    """The published rows of one evaluation, by condition."""

    metric: NotRequired[str]
    answers: NotRequired[int]  # of a run
    source: NotRequired[str]  # of self-recognition: whose summaries are the own ones, base or self
    rows: dict[str, PublishedRow]
    other_metrics: NotRequired[dict[str, OtherMetric]]


class PublishedNumbers(TypedDict):
    """All of the file."""

    sources: dict[str, str]  # by table
    not_measured: dict[str, str]  # patterns of conditions that no config has: why
    models: dict[str, dict[str, PublishedTable]]


@lru_cache(maxsize=1)
def published_numbers() -> PublishedNumbers:
    """`published.yaml`."""
    return cast(
        PublishedNumbers, yaml.safe_load(resources.files("sgtr_jax.report").joinpath("published.yaml").read_text())
    )


def published_tables(model: str | None) -> dict[str, PublishedTable]:
    """The tables of a model by evaluation; none for one that nothing is published of."""
    return published_numbers()["models"].get(model or "", {})
