"""Inspect tasks of other people: in a file, or in an installed package."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from sgtr_eval.facts import MakesTask
from sgtr_jax.errors import InputError, nearest

_EXPECTED = "expected FILE.py@TASK, or PACKAGE/TASK of an installed package, such as inspect_evals/gsm8k"


@dataclass(frozen=True)
class OtherTask:
    """A task's function, its name without the folder, and what it is made of."""

    name: str
    function: MakesTask
    files: Mapping[str, Path]  # of code, by their names within the folder
    package: str | None  # with its version


def load_other(reference: str) -> OtherTask:
    """The task `FILE.py@TASK` or `PACKAGE/TASK`. Raises InputError where there is none, or the file fails to import."""
    file, at, name = reference.rpartition("@")
    if at:
        if not file.endswith(".py") or not name:
            raise InputError(f"{reference}: {_EXPECTED}")
        if not Path(file).is_file():
            raise InputError(f"{file}: no such file (a task of an evaluation)")
        return _in_file(Path(file).resolve(), name)
    package, slash, name = reference.partition("/")
    if not slash or not package or not name or reference.endswith(".py"):
        raise InputError(f"{reference}: {_EXPECTED}")
    return _in_package(package, name)


@cache
def _in_file(path: Path, name: str) -> OtherTask:
    module, files = _imported(path)
    # Modules beside the file are part of the task.
    parts = {str(file.relative_to(path.parent)): file for file in files}
    return OtherTask(f"{path.name}@{name}", _task_of(module, name, str(path)), parts, None)


@cache
def _in_package(package: str, name: str) -> OtherTask:
    found = [one for one in importlib.metadata.entry_points(group="inspect_ai") if one.name == package]
    if not found:
        known = sorted({one.name for one in importlib.metadata.entry_points(group="inspect_ai")})
        raise InputError(
            f"{package}/{name}: no package {package!r} with tasks of Inspect is installed ({', '.join(known)} are); "
            "install it, or give FILE.py@TASK"
        )
    distribution = found[0].dist
    version = "unknown" if distribution is None else distribution.version
    return OtherTask(f"{package}/{name}", _task_of(found[0].load(), name, package), {}, f"{package} {version}")


def _task_of(module: ModuleType, name: str, where: str) -> MakesTask:
    function: MakesTask | None = getattr(module, name, None)
    if function is None or not _is_task(function):
        tasks = sorted(key for key, value in vars(module).items() if _is_task(value))
        raise InputError(
            f"{where}: has no task {name!r}: {nearest(name, tasks) if tasks else 'it has no @task at all'}"
        )
    return function


def _is_task(value: object) -> bool:
    from inspect_ai.util import registry_info

    try:
        return callable(value) and registry_info(value).type == "task"
    except ValueError:  # Inspect's word that it does not know it
        return False


@cache
def _imported(path: Path) -> tuple[ModuleType, tuple[Path, ...]]:
    """A file as a module, and the files of its folder that it is made of: itself, and those that it imports."""
    spec = importlib.util.spec_from_file_location(f"_sgtr_task_{path.stem}_{abs(hash(path))}", path)
    assert spec is not None and spec.loader is not None  # it ends with .py
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    # It stays there: what is imported while the task runs lies beside the file, too.
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 - whatever somebody's file raises
        sys.path.remove(str(path.parent))
        raise InputError(f"{path}: importing it fails: {type(error).__name__}: {error}") from None
    beside = {
        Path(file).resolve()
        for name in set(sys.modules) - before
        if (file := getattr(sys.modules[name], "__file__", None)) and "site-packages" not in file
    }
    files = {path, *(one for one in beside if one.is_relative_to(path.parent))}
    return module, tuple(sorted(files))
