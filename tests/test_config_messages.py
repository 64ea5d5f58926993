"""What is said of a wrong value: its key as it stands in the file, once, and none of the words of the library below."""

from __future__ import annotations

import itertools
import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from sgtr_jax.config import build_config
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.data_node import data_configs
from sgtr_jax.experiment.settings import stored
from sgtr_jax.json_types import Json

BASE: dict[str, Any] = {
    "name": "n", "model": "nano", "seeds": 1, "data": {"mine": {"kind": "file", "path": "d.jsonl"}},
    "conditions": {"a": [{"data": "mine"}]}, "evaluations": {"who": {"kind": "identity", "maker": "qwen"}},
}  # fmt: skip
KINDS = [typing.get_args(one.model_fields["kind"].annotation)[0] for one in data_configs()]
OF_THE_LIBRARY = re.compile(
    r"function-|tagged-union|literal\[|constrained-|lax-or-strict|model_type|\b[A-Z]\w+(?:Config|Eval|Node|Stage|Start)\b"
    r"|by name'|\[key\]|Input should|Input tag|union_tag|NoneType|pydantic|discriminator|should have at|Value error"
)
PATHS = sorted(
    {one.path for one in stored() if one.of == "experiment" and not re.search(r"NAME|\[\]", one.path)} - {"model"}
)


def refused(data: Json) -> list[str]:
    assert isinstance(data, dict)
    with pytest.raises(InputError) as caught:
        build_config(ExperimentConfig, data, "c.yaml")
    return str(caught.value).splitlines()


def laid(path: str, value: Json) -> dict[str, Any]:
    """BASE with a value at a path."""
    data: dict[str, Any] = {**BASE}
    node = data
    *above, last = path.split(".")
    for part in above:
        node[part] = dict(node.get(part) or {})
        node = node[part]
    node[last] = value
    return data


# Settings below a name that the user gives, or in a list, with the section that says which kind of thing is meant.
BELOW_NAMES = {
    section: sorted({one.path for one in stored() if one.section == section and re.search(r"NAME|\[\]", one.path)})
    for section in dict.fromkeys(one.section for one in stored() if one.of == "experiment")
}
# What a section's path lies in.
OUTER = {"data.NAME.recipe": {"kind": "built"}, "data.NAME.articles": {"kind": "self_recognition"}}


def laid_below(section: str, path: str, value: Json) -> dict[str, Any]:
    """BASE with a value at a path with NAME or [] in it."""
    where, _, kind = section.partition(" with kind: ")
    data: dict[str, Any] = json.loads(json.dumps(BASE))
    node: Any = data
    parts = path.replace("[]", ".[]").split(".")
    for depth, (part, following) in enumerate(itertools.pairwise([*parts, ""])):
        key = {"NAME": {"data": "mine", "evaluations": "who"}.get(parts[0], "a")}.get(part, part)
        if depth == len(parts) - 1:
            node[key] = value
            break
        below: Any = [{}] if following == "[]" else {}
        if part == "[]":
            node = node[0]
            continue
        if not isinstance(node.get(key), type(below)):
            node[key] = below
        node = node[key]
        here = ".".join(parts[: depth + 1])
        if isinstance(node, dict) and here in (where, *(outer for outer in ("data.NAME",) if where in OUTER)):
            node.update({"kind": kind} if here == where else OUTER[where])
    return data


WRONG: list[Json] = [["x", ["y"]], {"no such": {"key": 1}}, -3.5, "\x01 nothing", True]


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_value_is_named_as_it_is_written(path: str) -> None:
    refusals = 0
    for value in WRONG:
        try:
            build_config(ExperimentConfig, laid(path, value), "c.yaml")
        except InputError as error:
            refusals += 1
            check_lines(path, str(error).splitlines())
    assert refusals >= 2


@pytest.mark.parametrize("section", [section for section, paths in BELOW_NAMES.items() if paths])
def test_a_wrong_value_below_a_name_is_named_in_words(section: str) -> None:
    refusals = 0
    for path, value in itertools.product(BELOW_NAMES[section], [*WRONG[:3], True, [], {}]):
        try:
            build_config(ExperimentConfig, laid_below(section, path, value), "c.yaml")
        except InputError as error:
            refusals += 1
            lines = str(error).splitlines()
            assert all(line.startswith("c.yaml: ") and not OF_THE_LIBRARY.search(line) for line in lines), lines
            keys = [found[1] for line in lines if (found := re.search(r"key '([^']*)'", line))]
            assert len(keys) == len(set(keys)) and "" not in keys, lines
    assert refusals >= 2 * len(BELOW_NAMES[section])


def check_lines(path: str, lines: list[str]) -> None:
    keys = [found[1] for line in lines if (found := re.search(r"key '([^']*)'", line))]
    assert len(keys) == len(set(keys)), lines
    assert all(key.startswith(path.split(".")[0]) or path.split(".")[0].startswith(key) for key in keys), lines
    assert not [line for line in lines if OF_THE_LIBRARY.search(line)]


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"evaluations": {"who": {"kind": "identity", "maker": 3}}},
         ["c.yaml: key 'evaluations.who.maker': expected text (found 3)"]),
        ({"evaluations": {"who": 3}},
         ["c.yaml: key 'evaluations.who': expected keys with values, as in {key: value} (found 3)"]),
        ({"data": {"mine": {"kind": "file", "path": 1.5}}},
         ["c.yaml: key 'data.mine.path': expected text (found 1.5)"]),
        ({"data": {"mine": {"path": "d.jsonl"}}},
         ["c.yaml: key 'data.mine.kind' is missing; expected one of 'built', 'file', 'hub', 'preferences', "
          "'published', 'registry', 'self_recognition', 'self_reports'"]),
        ({"contrasts": {"c": {"of": "a", "against": "a", "evaluations": []}}},
         ["c.yaml: key 'contrasts.c.evaluations': expected at least 1 item (found [])"]),
        ({"seeds": ["a"]}, ["c.yaml: key 'seeds.0': expected a whole number (found 'a')"]),
        ({"conditions": {"a": ["mine"]}},
         ["c.yaml: condition 'a': a stage is written as keys with values: {data: mine} and not mine"]),
        ({"finetuning": {"mesh": 5}},
         ["c.yaml: key 'finetuning.mesh': expected keys with values, as in {key: value} or 'auto' (found 5)"]),
        ({"data": {"mine": {"kind": "fil", "path": "d.jsonl"}}},
         [f"c.yaml: key 'data.mine': kind 'fil' is none of {', '.join(map(repr, KINDS))}"]),
    ],
)  # fmt: skip
def test_one_line_says_what_where_and_what_was_expected(change: dict[str, Any], lines: list[str]) -> None:
    assert refused({**BASE, **change}) == lines


@pytest.mark.parametrize("section", ["data", "conditions", "evaluations", "groups", "contrasts"])
@pytest.mark.parametrize("name", ["../evil", ".", "..", "a/b", "", "a.", ".a", "a\x00b", "a\nb"])
def test_a_name_that_would_leave_its_folder_is_refused_once(section: str, name: str) -> None:
    value = {"data": BASE["data"]["mine"], "conditions": [{"data": "mine"}], "evaluations": BASE["evaluations"]["who"],
             "groups": ["a"], "contrasts": {"of": "a", "against": "a"}}[section]  # fmt: skip
    lines = refused({**BASE, section: {**BASE.get(section, {}), name: value}})
    assert len([line for line in lines if f"key {section!r}" in line]) == 1 == len(lines), lines
    assert repr(name) in lines[0] and not Path(name).is_file()
