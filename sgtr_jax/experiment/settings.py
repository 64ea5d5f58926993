"""Every setting with its YAML path, type, default and meaning, read from the types that read configs.

To read them, everything has to be imported, which takes seconds. `settings.jsonl` holds what was read, for
`sgtr settings`; `python -m sgtr_jax.experiment.settings` writes it anew, and a test compares.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sgtr_jax.files import read_jsonl, write_jsonl

Model = type[BaseModel]
STORED = Path(__file__).with_suffix(".jsonl")


@dataclass(frozen=True)
class Listed:
    """A setting as `sgtr settings` lists it: of an experiment, a command or an evaluation."""

    of: str
    section: str  # below which heading it stands; empty for the first one
    path: str
    type: str
    default: str
    description: str


@dataclass(frozen=True)
class Row:
    """One setting: its path in YAML and what is said about it."""

    path: str
    type: str
    default: str
    description: str


@dataclass
class Section:
    """A heading, what the type's docstring says, and the settings below it."""

    title: str
    about: str
    rows: list[Row] = field(default_factory=list)


def stored() -> list[Listed]:
    """What `settings.jsonl` holds."""
    return [Listed(**cast(dict[str, str], row)) for _, row in read_jsonl(STORED)]


def listed() -> Iterator[Listed]:
    """Every setting: of an experiment, of the commands, and every argument of an evaluation."""
    for of, root in roots().items():
        for section in sections_of(root):
            for row in section.rows:
                cells = (section.title, row.path, row.type, row.default, row.description)
                yield Listed(of, *(cell.replace("`", "") if cell is not row.description else cell for cell in cells))
    from sgtr_eval.described import arguments_of, tasks

    for name, made in tasks().items():
        hints = typing.get_type_hints(made)
        for key, default, description in arguments_of(name):
            yield Listed(name, "", key, words(hints[key]), default, description)


def roots() -> dict[str, Model]:
    """The types that read a file or a command line, by the word that `sgtr settings` has for them."""
    from sgtr_jax.experiment.config import ExperimentConfig
    from sgtr_jax.finetune.config import TrainCommand
    from sgtr_jax.sample.config import SampleCommand

    return {"experiment": ExperimentConfig, "train": TrainCommand, "sample": SampleCommand}


def sections_of(root: Model) -> Iterator[Section]:
    """The settings of a root: first its plain ones, then a section for each setting that has settings of its own."""
    first = Section("", "")
    later: list[Section] = []
    _walk(root, "", first, later, {})
    yield first
    yield from later


def _walk(model: Model, prefix: str, into: Section, later: list[Section], shown: dict[tuple[Model, ...], str]) -> None:
    """Add the settings of `model` to a section, and sections to `later` for what is too large to stand inside."""
    said = descriptions(model)
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        variants = tuple(models_in(info.annotation))
        if name == "kind" and "kind:" in into.title:
            continue  # the heading says it
        description = said.get(name, "")
        below = f"{path}{_between(info.annotation)}"
        if variants in shown and len(variants) > 1:
            description += f" The settings below it are those of `{shown[variants]}`."
        into.rows.append(Row(path, f"`{words(info.annotation)}`", _default(info), description.strip()))
        if not variants or (variants in shown and len(variants) > 1):
            continue
        shown.setdefault(variants, below)
        if len(variants) > 1:
            for variant in variants:
                kinds = typing.get_args(variant.model_fields["kind"].annotation)
                one = f"`kind: {kinds[0]}`" if len(kinds) == 1 else "another `kind:`"
                section = Section(f"`{below}` with {one}", _doc(variant))
                if len(kinds) > 1:
                    section.about += f" The kinds are {', '.join(f'`{kind}`' for kind in kinds)}."
                later.append(section)
                _walk(variant, f"{below}.", section, later, shown)
        elif prefix == "":
            section = Section(f"`{below}`", _doc(variants[0]))
            later.append(section)
            _walk(variants[0], f"{below}.", section, later, shown)
        else:
            _walk(variants[0], f"{below}.", into, later, shown)


def _doc(model: Model) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").split())


def _between(annotation: object) -> str:
    """What stands in a path between a setting and its inner ones: `.NAME` for names, `[]` for lists."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _between(inner[0])
    if origin in (typing.Union, types.UnionType):
        return next((found for found in map(_between, inner) if found), "")
    return ".NAME" if origin is dict else "[]" if origin is tuple else ""


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "as below"
    plain = value is None or isinstance(value, bool | dict | tuple)
    return f"`{json.dumps(value) if plain else value}`"


def descriptions(model: Model) -> dict[str, str]:
    """The comments beside or right above each field, in the class or in those that it inherits from."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not (isinstance(owner, type) and issubclass(owner, BaseModel)) or owner is BaseModel:
            continue
        source = textwrap.dedent(inspect.getsource(owner))
        lines = source.splitlines()
        (body,) = ast.parse(source).body
        assert isinstance(body, ast.ClassDef)
        for node in body.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                text = _comment(lines, node)
                if text:
                    found[node.target.id] = text
    return found


def _comment(lines: list[str], node: ast.AnnAssign) -> str:
    """What the comments at a field say; an empty line ends the block above it."""
    beside = re.search(r"  #\s*(.*)$", lines[(node.end_lineno or node.lineno) - 1])
    above: list[str] = []
    at = node.lineno - 2
    while at >= 0 and lines[at].strip().startswith("#"):
        above.insert(0, lines[at].strip().lstrip("# "))
        at -= 1
    texts = [*above, *([beside.group(1)] if beside and not beside.group(1).startswith("fmt:") else [])]
    return " ".join(texts)


def words(annotation: object) -> str:
    """A type as people write it: `int or null`, `drop or cut`, `list of float`."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Annotated:
        return words(inner[0])
    if origin is typing.Literal:
        return " or ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(words, inner)))
    if origin is tuple:
        return f"list of {words(inner[0])}"
    if origin is dict:
        return f"NAME: {words(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "settings"
    name = str(getattr(annotation, "__name__", annotation))
    return {"str": "text", "bool": "true or false", "Path": "path"}.get(name, name)


def models_in(annotation: object) -> Iterator[Model]:
    """The config types in an annotation, through lists, names and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from models_in(inner)


if __name__ == "__main__":
    write_jsonl(STORED, [asdict(one) for one in listed()])
