"""Reading configs: YAML and `key=value` overrides into frozen, typed objects, or one clear message.

Validation is pydantic's, in strict mode. What is added here is what a person editing YAML needs: the file
and the key in every message, the nearest valid key for a misspelt one, and never the whole config.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Tag, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from sgtr_jax.errors import InputError
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.near import called, close, remark
from sgtr_jax.yaml_text import parse_yaml, read_yaml

DType = Literal["float32", "bfloat16"]
# More than a million of anything is a slip: a digit too many, or a number that stands for "all".
PositiveInt = Annotated[int, Field(ge=1, le=1_000_000)]
# How many of a thing that is made one by one, some of them whenever a plan is made.
Count = Annotated[int, Field(ge=1, le=100_000)]
# JAX drops all but the last 32 bits of a seed, so that 2**32 would be 0; APIs take 31.
Seed = Annotated[int, Field(ge=0, lt=2**31)]

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_LONGEST_NAME = 80


def check_name(name: str, what: str = "the name") -> str:
    """`name`, if it may be part of a file's name on any system. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r} would become part of a path: use letters a to z, digits, dots, dashes and underscores, "
            "with a letter or a digit first and no dot last"
        )
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"{what} {name[:20]!r}... has {len(name)} characters; the most are {_LONGEST_NAME}")
    return name


def check_distinct(names: Iterable[str], what: str) -> None:
    """Raise ValueError if two names are the same on a file system that does not tell capitals from small letters."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(f"{what} {other!r} and {name!r} differ only in capital letters; rename one")


Name = Annotated[str, AfterValidator(check_name)]  # of anything that becomes part of a path


_FOLDER = "folder"  # of the config's file, in the context of validation


def from_folder(value: str, info: ValidationInfo) -> str:
    """A relative path of a config's file as one from where the command runs: it starts at that file's folder."""
    folder = (info.context or {}).get(_FOLDER)
    return value if folder is None or Path(value).is_absolute() or "://" in value else str(folder / value)


def names_file(value: str) -> bool:
    """Whether a value that is a name or a file is meant as a file: it has a slash, or an ending such as `.jsonl`.

    A plain word is a name, whatever lies beside the config; `./word` is the file.
    """
    return len(value) <= _LONGEST_PATH and ("/" in value or re.search(r"\.[A-Za-z]\w*$", value) is not None)


def file_from_folder(value: str, info: ValidationInfo) -> str:
    """The same for text that may name a file: where there is such a file. Anything else stays as it is."""
    if not names_file(value):
        return value
    there = from_folder(value, info)
    if not Path(there).is_file():
        return value
    return there if names_file(there) else f"./{there}"


class _FromFolder:
    """Marks a type whose relative values start at the folder of the config's file."""


_FROM_FOLDER = _FromFolder()
_LONGEST_PATH = 1024
# A file that a config names.
FilePath = Annotated[Path, AfterValidator(lambda path, info: Path(from_folder(str(path), info))), _FROM_FOLDER]
# A name of something known, or a file; see `names_file`.
NameOrFile = Annotated[str, AfterValidator(file_from_folder), _FROM_FOLDER]


class Config(BaseModel):
    """Base of every config: frozen, strict about types, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def written_out(cls, data: Mapping[str, Json]) -> Mapping[str, Json]:
        """`data` of a file with the short forms it may use written out."""
        return data


Location: TypeAlias = tuple[int | str, ...]  # keys and indices that lead to a value, as pydantic gives them
C = TypeVar("C", bound=Config)
_SHOWN = 20  # problems of one config
_LONGEST_REASON = 600  # characters; a validator may name what it was given
_LONGEST_VALUE = 80


def read_extended(path: Path, above: tuple[Path, ...] = ()) -> JsonObject:
    """Read a YAML file; with `extends: OTHER` it is laid over that file, which is named from where this one lies.

    Keys of mappings are laid over each other at every depth; anything else is replaced. Raises InputError.
    """
    data = read_yaml(path)
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise InputError(f"{path}: extends: found {base!r}; expected the path of another config file")
    other = path.parent / base
    if os.path.realpath(other) in {os.path.realpath(one) for one in (*above, path)}:
        raise InputError(f"{path}: extends: {base} is this file itself, or extends it")
    return _laid_over(read_extended(other, (*above, path)), data)


def _laid_over(below: JsonObject, above: JsonObject) -> JsonObject:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _laid_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def apply_overrides(
    data: Mapping[str, Json],
    overrides: Iterable[str],
    seen: Callable[[tuple[str, ...], Json], Json] = lambda location, value: value,
) -> JsonObject:
    """Return `data` with `key.subkey=value` overrides laid over it; values are parsed as YAML, and then as `seen`."""
    merged: JsonObject = json.loads(json.dumps(data))  # a copy, in which what two aliases share is two
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise InputError(f"override {override!r}: expected key=value, for example lr=1e-4")
        node = merged
        *parents, last = key.split(".")
        for depth, parent in enumerate(parents):
            below = node.setdefault(parent, {})
            if not isinstance(below, dict):
                path = ".".join(parents[: depth + 1])
                raise InputError(
                    f"override {override!r}: {path} is {_cut(repr(below), _LONGEST_VALUE)}, which has no keys"
                )
            node = below
        node[last] = seen((*parents, last), parse_yaml(value, f"override {key}"))
    return merged


def build_config(cls: type[C], data: Mapping[str, Json], where: str, folder: Path | None = None) -> C:
    """Validate `data` as a `cls`; relative paths start at `folder`, or where the command runs.

    Raises InputError listing every problem with its key and `where`.
    """
    try:
        written = dict(cls.written_out(data))
        # JSON mode: a YAML list may fill a tuple and a string a Path, yet "3" does not fill an int.
        return cls.model_validate_json(json.dumps(written), context={_FOLDER: folder})
    except ValidationError as error:
        problems = _described(cls, (dict(data), written), error.errors(include_url=False))
    except (TypeError, ValueError) as error:  # without a JSON form
        problems = [str(error)]
    if len(problems) > _SHOWN:
        problems = [*problems[:_SHOWN], f"{len(problems) - _SHOWN} more problems"]
    raise InputError("\n".join(f"{where}: {problem}" for problem in problems))


def load_config(cls: type[C], path: Path, overrides: Iterable[str] = ()) -> C:
    """Read `path` with what it extends, lay `overrides` over it and validate.

    Relative paths in the file start at its folder, those of overrides where the command runs.
    """
    data = apply_overrides(read_extended(path), overrides, partial(_absolute, cls))
    return build_config(cls, data, str(path), path.parent)


def _absolute(cls: type[BaseModel], location: tuple[str, ...], value: Json) -> Json:
    """A value of an override with the files in it named from the root."""
    if isinstance(value, Mapping):
        return {key: _absolute(cls, (*location, key), one) for key, one in value.items()}
    types = [one for one, marks in _types_at(cls, location) if _FROM_FOLDER in marks]
    if not isinstance(value, str) or len(value) > _LONGEST_PATH or not types:
        return value
    is_file = (Path in types or names_file(value)) and Path(value).is_file()
    return str(Path(value).resolve()) if is_file else value


def is_path(cls: type[BaseModel], location: tuple[str, ...]) -> bool:
    """Whether the setting there is a file, and nothing else."""
    return any(one is Path and _FROM_FOLDER in marks for one, marks in _types_at(cls, location))


def _described(cls: type[BaseModel], data: Sequence[Json], items: Sequence[ErrorDetails]) -> list[str]:
    """What is wrong, a line for each key: where a value may be one of several things, all of them in one line.

    `data` is what was given, and the same with its short forms written out.
    """
    lines: dict[tuple[str, str], list[str]] = {}
    places = [item["loc"] for item in items]
    for item in items:
        location = item["loc"]
        # Of a list whose items are wrong, pydantic also says that it has no right ones.
        if item["type"] == "too_short" and any(one[: len(location)] == location != one for one in places):
            continue
        key, reason, found = _describe(cls, data, item)
        reasons = lines.setdefault((key, found), [])
        reasons += [reason] if reason not in reasons else []
    return [
        f"{key}{' or '.join([first, *(one.removeprefix('expected ') for one in others)])}{found}"
        for (key, found), (first, *others) in lines.items()
    ]


def _describe(cls: type[BaseModel], data: Sequence[Json], item: ErrorDetails) -> tuple[str, str, str]:
    """The key with what leads over to the reason, the reason, and what was found."""
    location = item["loc"]
    if location and location[-1] == "[key]":  # pydantic's word for a key that is itself wrong
        location = location[:-2]
    kept = 1 if item["type"] in ("missing", "extra_forbidden") else 0
    above = location[: len(location) - kept]
    given, written = (_as_written(one, above) for one in data)
    # A key of a short form is not in the file under its own name.
    shown = (*(given if given[-1:] == above[-1:] else written), *location[len(location) - kept :])
    key = ".".join(map(str, shown))
    if item["type"] == "extra_forbidden":
        valid = sorted(_keys_at(cls, location[:-1]))
        known = f"Valid keys: {', '.join(valid)}" if valid else "there are no keys here"
        return f"unknown key {key!r}: ", f"{_hint(cls, location, valid)}{known}", ""
    if item["type"] == "missing":
        return f"key {key!r} ", "is missing", ""
    if item["type"] == "union_tag_not_found":
        tags = sorted({tag for one, _ in _types_at(cls, location, tagged=True) for tag in _tags_of(one)})
        return f"key {f'{key}.kind'!r} ", f"is missing; expected one of {', '.join(map(repr, tags))}", ""
    reason = _cut(item["msg"].removeprefix("Value error, "), _LONGEST_REASON)
    reason = re.sub(
        r"^Input tag '(.*)' found using '(\w+)' does not match any of the expected tags:", r"\2 '\1' is none of", reason
    )
    reason = re.sub("^Input should be (?=greater|less)", "expected a number ", reason)
    reason = re.sub(r"^\w+ should have at (least|most) (\d+ (?:item|character)s?)\b.*", r"expected at \1 \2", reason)
    reason = _IN_WORDS.get(reason, re.sub("^Input should be ", "expected ", reason))
    # A whole section, or all of the config, is not shown again.
    found = "" if isinstance(item["input"], dict) else f" (found {_cut(repr(item['input']), _LONGEST_VALUE)})"
    return f"key {key!r}: " if key or found else "", reason, found


_IN_WORDS = {
    "Input should be an object": "expected keys with values, as in {key: value}",
    "Input should be a valid array": "expected a list, as in [a, b]",
    "Input should be a valid string": "expected text",
    "Input should be a valid integer": "expected a whole number",
    "Input should be a valid number": "expected a number",
    "Input should be a valid boolean": "expected true or false",
    "Input should be None": "expected null",
}


def _as_written(data: Json, location: Location) -> Location:
    """The part of a location that is in the file: pydantic puts its own names of the branches of a union into it."""
    if not location:
        return ()
    head, rest = location[0], location[1:]
    without = _as_written(data, rest)
    if isinstance(data, dict) and head in data:
        below = data[str(head)]
    elif isinstance(data, list) and isinstance(head, int) and head < len(data):
        below = data[head]
    else:
        return without
    within = (head, *_as_written(below, rest))
    return within if len(within) >= len(without) else without


def _hint(cls: type[BaseModel], location: Location, valid: Sequence[str]) -> str:
    """What a key that does not exist is meant to be: one beside it, one further down, or one anywhere."""
    *above, wrong = map(str, location)
    below = sorted(_paths_at(cls, location[:-1]))
    for one_of in (called, close):
        if (found := one_of(wrong, valid)) is None and (found := one_of(wrong, below)) is not None:
            found = ".".join([*above, found])
        if found is None:
            found = one_of(wrong, sorted(_paths_at(cls, ())))
        if found is not None and found != wrong:
            return f"did you mean {found!r}{remark(wrong, found)}? "
    return ""


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def _keys_at(annotation: object, location: Location) -> set[str]:
    """Field names valid at `location`, as pydantic has it, below `annotation`."""
    found = (one for one, _ in _types_at(annotation, location, tagged=True))
    return {key for one in found if isinstance(one, type) and issubclass(one, BaseModel) for key in one.model_fields}


def _types_at(
    annotation: object, location: Location, marks: tuple[object, ...] = (), tagged: bool = False
) -> Iterator[tuple[object, tuple[object, ...]]]:
    """Types at `location` with what they are annotated with, looking through lists, dicts and unions.

    A `tagged` location has pydantic's names of the branches of unions in it, which say which branch it is.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _types_at(args[0], location, (*marks, *args[1:]), tagged)
    elif origin is Union or str(origin) == "<class 'types.UnionType'>":
        branch = [arg for arg in args if tagged and location and str(location[0]) in _tags_of(arg)]
        for arg in branch or args:
            yield from _types_at(arg, location[1:] if branch else location, marks, tagged)
    elif not location:
        yield annotation, marks
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(location[0]))
        if field is not None:
            yield from _types_at(field.annotation, location[1:], tuple(field.metadata), tagged)
        else:
            yield from _types_at(annotation, location[1:], tagged=tagged)  # a tag pydantic put into the path of a union
    elif origin in (list, tuple, set):
        yield from _types_at(args[0], location[1:], tagged=tagged)
    elif origin is dict:
        yield from _types_at(args[1], location[1:], tagged=tagged)


def _tags_of(annotation: object) -> set[str]:
    """Names that pydantic may give a branch of a union: those of its `Tag`, or of its `kind`."""
    args = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    tags = {one.tag for one in args[1:] if isinstance(one, Tag)}
    if isinstance(args[0], type) and issubclass(args[0], BaseModel) and (kind := args[0].model_fields.get("kind")):
        tags |= {str(one) for one in get_args(kind.annotation)} if not tags else set()
    return tags


def _paths_at(annotation: object, location: Location, deep: int = 4) -> set[str]:
    """Paths of settings below `location`, as far as they lead through sections and not through names of the user's."""
    found: set[str] = set()
    for name in _keys_at(annotation, location):
        below = _paths_at(annotation, (*location, name), deep - 1) if deep > 1 else set()
        found |= {name, *(f"{name}.{path}" for path in below)}
    return found
