"""What Inspect finds through the package's entry point: `inspect eval sgtr_eval/identity --model sgtr/nano`.

Every module of the package is imported, so that an evaluation is a file and stands in no list.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

import sgtr_eval
from sgtr_eval.inspect_later import register_all

if TYPE_CHECKING:
    from sgtr_eval.facts import MakesTask


def discover() -> None:
    """Import every module of the package: tasks and providers make themselves known to Inspect, facts to us."""
    for module in pkgutil.walk_packages(sgtr_eval.__path__, f"{sgtr_eval.__name__}."):
        if module.name != __name__:
            importlib.import_module(module.name)


discover()
register_all()


def __getattr__(name: str) -> MakesTask:
    """An evaluation's task by its name."""
    from sgtr_eval.facts import all_facts

    if name in (found := all_facts()):
        return found[name].task
    raise AttributeError(f"module {__name__!r} has no evaluation {name!r}")
