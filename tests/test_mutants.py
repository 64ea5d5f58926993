"""What `make mutants` reports is told right; mutmut itself is not needed here."""

from __future__ import annotations

import re

import yaml
from mutants import (
    EXPLAINED,
    MODULES,
    ROOT,
    Mutant,
    change,
    explained,
    explains,
    module_name,
    numbered,
    path_of,
    put_in,
    unexplained,
    without_purpose,
)

from sgtr_jax.data import packing


def test_a_change_is_its_lines() -> None:
    before = "def f(x):\n    y = x + 1\n    return (\n        y,\n        2,\n    )\n"
    assert change(before, before.replace("+", "-")) == "y = x + 1 => y = x - 1"
    assert change(before, before.replace("        2,\n", "")) == "2, => (nothing)"
    assert change(before, before.replace("x + 1", "None").replace("2,", "3,")) == "y = x + 1 / 2, => y = None / 3,"
    assert numbered(["a", "b", "a", "a"]) == ["a", "b", "a #2", "a #3"]


def test_an_explanation_is_about_what_it_says() -> None:
    name = "f: y = x[0] + (1) => y = x[0] - (1)"
    assert explains(name, name) and explains("f: … => … - (1)", name) and explains("f: …", name)
    assert not explains("f: y = x[0] + (1)", name) and not explains("f", name) and not explains("f: y = x0…", name)
    assert unexplained([name, "g: a => b"], ["f: …"]) == ["g: a => b"]
    assert without_purpose([name], ["f: …", "h: …"]) == ["h: …"]


def test_a_fault_is_put_in_wherever_the_function_is_held() -> None:
    """Also behind a decorator (`num_tokens` is a property), also the default of an argument."""
    held, kept = packing.bucket, (packing.bucket.__code__, packing.bucket.__defaults__)
    getter = packing.PackedStep.num_tokens.fget  # type: ignore[attr-defined]
    code = getter.__code__
    try:
        put_in(packing, Mutant("", "bucket", "def bucket(size=3):\n    return -size\n"))
        assert held(8) == -8 and held() == -3  # type: ignore[call-arg]
        put_in(
            packing, Mutant("", "PackedStep.num_tokens", "class PackedStep:\n    def num_tokens(self): return 'no'\n")
        )
        assert packing.pack([], packing.PackedShape(1, 1, 1)).num_tokens == "no"  # type: ignore[comparison-overlap]
    finally:
        (held.__code__, held.__defaults__), getter.__code__ = kept, code
    assert held(8) == 8


def test_modules_tests_and_explained_lines_are_there() -> None:
    assert module_name("eval/sgtr_eval/judging/rates.py") == "sgtr_eval.judging.rates"
    for path, tests in MODULES.values():
        assert (ROOT / path).exists() and tests
        for name in tests:
            file, _, test = path_of(name).partition("::")
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8") or not test, name
    groups = yaml.safe_load(EXPLAINED.read_text(encoding="utf-8"))
    assert set(groups) <= set(MODULES) and all(group["why"].endswith(".") for of in groups.values() for group in of)
    for module, patterns in explained().items():
        lines = [line.strip() for line in (ROOT / MODULES[module][0]).read_text(encoding="utf-8").splitlines()]
        for pattern in patterns:
            function, was = re.fullmatch(r"([\w.]+): (.*?)(?: => .*)?", pattern).groups()  # type: ignore[union-attr]
            assert any(re.search(rf"def {function.split('.')[-1]}\b", line) for line in lines), pattern
            for part in was.split(" / "):
                assert part == "(nothing)" or any(explains(part, line) for line in lines), pattern
