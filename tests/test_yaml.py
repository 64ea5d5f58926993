"""YAML means what people mean by it, and none of it ends in a traceback, a wrong number or a full memory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtr_jax.config import apply_overrides, build_config, load_config
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.yaml_text import parse_yaml, read_yaml

SCALARS = st.none() | st.booleans() | st.integers() | st.text()


def refused(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "x.yaml")
    assert str(caught.value).startswith("x.yaml") and len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", "010"), ("1:30", "1:30"), ("2026-01-02", "2026-01-02"), ("0x1F", 31), ("-0", 0), ("1.", 1.0),
        ("6.02E+23", 6.02e23), (".inf", float("inf")), ("1e5", 1e5), ("yes", "yes"), ("~", None), ("'12'", "12"),
        ("-7_000", -7000), ("1__", 1), ("+.5e1", 5.0), ("2026-13-45", "2026-13-45"), ("1_000.5", "1_000.5"),
    ],
)  # fmt: skip
def test_scalars(text: str, value: Any) -> None:
    found = parse_yaml(f"a: {text}", "x.yaml")["a"]
    assert found == value and type(found) is type(value)


def bomb(levels: int, width: int) -> str:
    lines = ["l0: &l0 [" + ", ".join(["x"] * width) + "]"]
    lines += [f"l{i}: &l{i} [" + ", ".join([f"*l{i - 1}"] * width) + "]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: &x [*x]", "an alias stands within"),
        ("a: &x {b: {c: *x}}", "an alias stands within"),
        ("a: &x\n  <<: *x", "alias"),
        (bomb(9, 9), "when aliases are written out"),
        (bomb(40, 2), "when aliases are written out"),
        (bomb(40, 2).replace("l0: &l0 [x, x]", "l0: &l0 {x: 1}"), "when aliases are written out"),
        ("[" * 100 + "]" * 100, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ("a:\n" + "".join(" " * i + "b:\n" for i in range(1, 200)), "nested too deeply"),
        ("a: 1\n'a': 2", "given twice"),
        ("1: a\n'1': b", "given twice"),
        ("a: *nothing", "undefined alias"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: !!int x", "not what its tag says"),
        ("a: !!bool x", "not what its tag says"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: !!binary x", "not valid YAML"),
        ("a: !!set {x}", "not valid YAML"),
        ("a: !mine x", "not valid YAML"),
        ("a: " + "9" * 5000, "not what its tag says"),
        ('a: "\\ud83d"', "half of a surrogate pair"),
        ("a: \x07", "not valid YAML"),
        ("--- a\n--- b\n", "but found another document"),
        ("a: [\n", ":2: not valid YAML"),
        ("a: <<: b", "not valid YAML"),
        ("<<: 3", "not valid YAML"),
        ("%YAML 9.9\n---\na", "not valid YAML"),
    ],
)
def test_documents_that_are_refused(text: str, part: str) -> None:
    begun = time.monotonic()
    assert part in refused(text)
    assert time.monotonic() - begun < 10


def test_an_alias_is_a_copy(tmp_path: Path) -> None:
    data = parse_yaml("a: &z {x: 1}\nb: *z\nc:\n  <<: *z\n  y: 2", "x.yaml")
    assert apply_overrides(data, ["a.x=7"]) == {"a": {"x": 7}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}
    (tmp_path / "x.yaml").write_bytes("\ufeffa: ü\r\n".encode())
    assert read_yaml(tmp_path / "x.yaml") == {"a": "ü"}


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab1:-[]{}&*!<\"'\\|>#%?,. \n\t\x07\u2028~"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        data = parse_yaml(text, "x.yaml")
    except InputError as error:
        assert str(error).startswith("x.yaml")
    else:
        json.dumps(data)


class Quoting(yaml.SafeDumper):
    """Quotes every word: `0E0` is a word to YAML 1.1, in which PyYAML writes, and a number to YAML 1.2."""


Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@settings(max_examples=100, deadline=None)
@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_what_is_written_is_read(data: Any) -> None:
    assert parse_yaml(yaml.dump(data, Dumper=Quoting), "x.yaml") == data


def problem(cls: Any, data: Any) -> str:
    with pytest.raises(InputError) as caught:
        build_config(cls, data, "x.yaml")
    return str(caught.value)


def test_messages_say_the_reason_first_and_never_the_whole_config() -> None:
    demo = read_yaml(Path(__file__).parent.parent / "configs" / "demo.yaml")
    text = problem(ExperimentConfig, {**demo, "seeds": [1, 1]})
    assert text.startswith("x.yaml: seeds [1, 1] repeat") and len(text) < 200
    text = problem(ExperimentConfig, {**demo, "judge": {"model": "x" * 10_000, "max_cost": "y" * 10_000}})
    assert text.startswith("x.yaml: key 'judge.max_cost': expected a number (found 'yyy")
    assert len(text) < 300
    text = problem(TrainConfig, {"lora": {"targets": ["x"] * 10_000}})
    assert text.startswith("x.yaml: key 'lora.targets'") and len(text) < 1000
    text = problem(TrainConfig, {f"key{i}": i for i in range(1000)})
    assert text.count("\n") == 20 and "980 more problems" in text
    text = problem(TrainConfig, {"lora": list(range(100_000))})
    assert "'lora'" in text and len(text) < 300


@pytest.mark.parametrize("content", ["[]", "3", "a", "- a: 1", "null", "2026-01-02"])
def test_the_root_of_a_config_is_a_mapping(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(InputError, match=r"x\.yaml: expected keys and values"):
        load_config(ExperimentConfig, tmp_path / "x.yaml")
    (tmp_path / "y.yaml").write_text("extends: x.yaml\nname: y\n")
    with pytest.raises(InputError, match=r"x\.yaml: expected keys and values"):
        load_config(ExperimentConfig, tmp_path / "y.yaml")
