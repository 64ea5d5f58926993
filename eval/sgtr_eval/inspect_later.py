"""What the evaluations use of Inspect, imported when the first of it is called.

Inspect takes a second or more to import. Reading a config, listing an experiment's artifacts and estimating its cost
need the facts that evaluations state, and none of their tasks. Files with evaluations therefore import from here what
they would import from `inspect_ai`; type checkers see Inspect's own names.

The decorators register a function with Inspect at its first call, or when `sgtr_eval.registry` is imported, as Inspect
itself does.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from inspect_ai import Task as Task
    from inspect_ai.dataset import MemoryDataset as MemoryDataset
    from inspect_ai.dataset import Sample as Sample
    from inspect_ai.model import CachePolicy as CachePolicy
    from inspect_ai.model import ChatMessage as ChatMessage
    from inspect_ai.model import ChatMessageAssistant as ChatMessageAssistant
    from inspect_ai.model import ChatMessageSystem as ChatMessageSystem
    from inspect_ai.model import ChatMessageUser as ChatMessageUser
    from inspect_ai.model import GenerateConfig as GenerateConfig
    from inspect_ai.model import Model as Model
    from inspect_ai.model import ModelOutput as ModelOutput
    from inspect_ai.model import ModelUsage as ModelUsage
    from inspect_ai.model import get_model as get_model
    from inspect_ai.scorer import Metric as Metric
    from inspect_ai.scorer import SampleScore as SampleScore
    from inspect_ai.scorer import Score as Score
    from inspect_ai.scorer import Scorer as Scorer
    from inspect_ai.scorer import Target as Target
    from inspect_ai.solver import Generate as Generate
    from inspect_ai.solver import Solver as Solver
    from inspect_ai.solver import TaskState as TaskState
else:
    _NAMES = {
        "inspect_ai": ("Task",),
        "inspect_ai.dataset": ("MemoryDataset", "Sample"),
        "inspect_ai.model": (
            "CachePolicy", "ChatMessage", "ChatMessageAssistant", "ChatMessageSystem", "ChatMessageUser",
            "GenerateConfig", "Model", "ModelOutput", "ModelUsage", "get_model",
        ),
        "inspect_ai.scorer": ("Metric", "SampleScore", "Score", "Scorer", "Target"),
        "inspect_ai.solver": ("Generate", "Solver", "TaskState"),
    }  # fmt: skip

    def _called(module: str, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(module), name)(*args, **kwargs)

        call.__name__ = call.__qualname__ = name
        return call

    for _module, _names in _NAMES.items():
        for _name in _names:
            globals()[_name] = _called(_module, _name)

P = ParamSpec("P")
R = TypeVar("R")
_undecorated: list[Callable[[], object]] = []  # registers one function each


def register_all() -> None:
    """Register everything that was decorated so far with Inspect."""
    while _undecorated:
        _undecorated.pop()()


def _later(function: Callable[P, R], decorate: Callable[[Callable[P, R]], Callable[P, R]]) -> Callable[P, R]:
    decorated = functools.cache(lambda: decorate(function))
    _undecorated.append(decorated)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        importlib.import_module("sgtr_eval.registry")  # so that all of ours is known as soon as one is used
        return decorated()(*args, **kwargs)

    return call


def task(function: Callable[P, Task]) -> Callable[P, Task]:
    """Inspect's `@task`."""

    def decorate(one: Callable[P, Task]) -> Callable[P, Task]:
        from inspect_ai import task as of_inspect

        return of_inspect(one)

    return _later(function, decorate)


def solver(function: Callable[P, Solver]) -> Callable[P, Solver]:
    """Inspect's `@solver`."""

    def decorate(one: Callable[P, Solver]) -> Callable[P, Solver]:
        from inspect_ai.solver import solver as of_inspect

        return of_inspect(one)

    return _later(function, decorate)


def metric(function: Callable[P, Metric]) -> Callable[P, Metric]:
    """Inspect's `@metric`."""

    def decorate(one: Callable[P, Metric]) -> Callable[P, Metric]:
        from inspect_ai.scorer import metric as of_inspect

        return of_inspect(one)

    return _later(function, decorate)


def scorer(*metrics: Callable[[], Metric]) -> Callable[[Callable[P, Scorer]], Callable[P, Scorer]]:
    """Inspect's `@scorer`, with the functions that make its metrics; none: each task gives its own."""

    def decorate(one: Callable[P, Scorer]) -> Callable[P, Scorer]:
        from inspect_ai.scorer import scorer as of_inspect

        made: Sequence[Metric] = [make() for make in metrics]
        return of_inspect(metrics=made)(one)

    return lambda function: _later(function, decorate)
