"""Reading YAML: what people mean by numbers and words, and nothing that grows without bound.

PyYAML reads YAML 1.1, in which `1e-5` is a word, `no` is false, `010` is eight and `1:30` is ninety. Here numbers are
those of YAML 1.2's core schema (and `1_000`), and everything else that is not quoted is a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path

import yaml

from sgtr_jax.errors import InputError
from sgtr_jax.files import check_unicode, read_text
from sgtr_jax.json_types import Json, JsonObject

_DEEPEST = 64  # mappings and lists within each other
_MOST_NODES = 1_000_000  # with every alias written out


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars, refusing keys given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Json]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # `<<: *anchor`, whose keys may be given again
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r:.60} is not a word or a number", key_node.start_mark
                )
            key = key if isinstance(key, str) else json.dumps(key)  # as configs are handed on: 1 is "1"
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r:.60} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_REPLACED = (":bool", ":float", ":int", ":timestamp")  # a date is a word: no setting is one
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(_REPLACED)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# Without what has no JSON form (dates, bytes, sets) and what only explicit tags name.
_KEPT = ("null", "bool", "int", "float", "seq", "map", "str")
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rsplit(":", 1)[-1] in _KEPT
}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf)|\.nan",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def parse_yaml(text: str, where: str) -> Json:
    """Parse one YAML document. Raises InputError naming `where` and, where it is known, the line."""
    loader = _opened(text, where)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, where)
        data: Json = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _refused(error, where) from None
    except RecursionError:
        raise InputError(f"{where}: YAML nested too deeply") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        # What PyYAML's constructors raise for a tag or a number that cannot be: `!!int x`, `!!timestamp x`.
        raise InputError(f"{where}: not valid YAML: a value is not what its tag says ({error!s:.60})") from None
    finally:
        loader.dispose()
    check_unicode(data, where)
    return data


def _opened(text: str, where: str) -> _Loader:
    try:
        return _Loader(text)
    except yaml.YAMLError as error:  # control characters
        raise _refused(error, where) from None


def _refused(error: yaml.YAMLError, where: str) -> InputError:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return InputError(f"{where}{line}: not valid YAML: {problem:.300}")


def _check_size(root: yaml.Node, where: str) -> None:
    """Refuse aliases that lead back to themselves, and documents that are huge once their aliases are written out.

    A few hundred bytes of aliases of aliases stand for billions of values, which the first copy would write out.
    """
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        line = f"{where}:{node.start_mark.line + 1}"
        if id(node) in open_:
            raise InputError(f"{line}: an alias stands within what it stands for; write the values out")
        if depth > _DEEPEST:
            raise InputError(f"{line}: YAML nested too deeply (the deepest that is read is {_DEEPEST})")
        if id(node) not in sizes:
            open_.add(id(node))
            total = 1 + sum(size(child, depth + 1) for child in _children(node))
            open_.remove(id(node))
            if total > _MOST_NODES:
                raise InputError(f"{line}: more than {_MOST_NODES:,} values when aliases are written out")
            sizes[id(node)] = total
        return sizes[id(node)]

    size(root, 0)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def read_yaml(path: Path) -> JsonObject:
    """Read a YAML file that must hold a mapping. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path}: no such config file")
    data = parse_yaml(read_text(path), str(path))
    if not isinstance(data, dict):
        found = "an empty file" if data is None else f"a {type(data).__name__}"
        raise InputError(f"{path}: expected keys and values (a mapping), found {found}")
    return data
