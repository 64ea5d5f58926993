"""The kinds of artifacts, one file each: the config it is made from, what decides its content, how it is made."""

from __future__ import annotations

import importlib
import pkgutil


def discover() -> None:
    """Import every file of this package, so that the kinds and the data configs in it are known."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
