"""The shapes and dtypes in the types of arrays, checked whenever a function of the package is called in a test.

`install` makes an import hook, which decorates the functions and methods whose signatures have types of `jaxtyping`.
A letter means one size within a call. Only the types of arrays are checked; the others are mypy's affair.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import re
import sys
from collections.abc import Callable, Sequence
from types import CodeType, ModuleType
from typing import Any, TypeVar

from beartype import beartype
from jaxtyping import jaxtyped

F = TypeVar("F", bound=Callable[..., Any])
_ROOMS = ("sgtr_jax.lora", "sgtr_jax.models", "sgtr_jax.sample", "sgtr_jax.train")
_OF_ARRAYS = re.compile(r"\b(?:Bool|Float|Float32|Float64|Int|Int32|UInt32|Num|Shaped)\[|\bAngles\b")


def checked(function: F) -> F:
    """`function`, which raises if an array has not the shape or dtype of its type."""
    function.__annotations__ = {
        name: kind for name, kind in function.__annotations__.items() if _OF_ARRAYS.search(str(kind))
    }
    made: F = jaxtyped(function, typechecker=beartype)
    return made


class _Decorate(ast.NodeTransformer):
    """Puts `checked` on every function outside of functions that has types of arrays."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        kinds = [one.annotation for one in arguments] + [node.returns]
        if any(kind is not None and _OF_ARRAYS.search(ast.unparse(kind)) for kind in kinds):
            call = ast.parse("__import__('shape_checks').checked", mode="eval").body
            node.decorator_list.append(ast.copy_location(call, node))  # the innermost
        return node


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        source = self.get_data(self.get_filename(fullname))
        tree = ast.fix_missing_locations(_Decorate().visit(ast.parse(source)))
        return compile(tree, self.get_filename(fullname), "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(_ROOMS):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def install() -> None:
    """Check the modules that are imported from now on."""
    sys.meta_path.insert(0, _Finder())
