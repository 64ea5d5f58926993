"""`make mutants`: the tests of fifteen modules against small faults that mutmut puts into them.

mutmut makes the faults; its own runner is not used, because it runs the tests in the process that it forks from, which
JAX does not survive, leaves decorated functions alone, and finds no module whose folder is not its package's. Here one
process imports a module and its tests, and each fault is tried in a fork of that process, where the faulty function's
code takes the place of the sound one's. Nothing is written but `.mutants/NAME.json`, what became of each fault.

A fault that no test finds is a survivor. `docs/survivors.yaml` says of each why it changes nothing that matters; one
that is not in there makes the exit code 1.
"""

from __future__ import annotations

import argparse
import difflib
import gc
import hashlib
import importlib
import json
import os
import re
import resource
import signal
import sys
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
EXPLAINED = ROOT / "docs" / "survivors.yaml"
RESULTS = ROOT / ".mutants"

# Module and the tests that it is paired with, `tests/test_FILE.py` or one of its tests: what finishes in seconds.
MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "loss": ("sgtr_jax/train/loss.py", ("loss",)),
    "optimizer": ("sgtr_jax/train/optimizer.py", ("optimizer", "oracles")),
    "packing": ("sgtr_jax/data/packing.py", ("packing",)),
    "statistics": ("eval/sgtr_eval/statistics.py", ("statistics_by_hand",)),
    "few_seeds": (
        "eval/sgtr_eval/few_seeds.py",
        (
            "few_seeds",
            "statistics_by_hand::test_shares_at_the_ends_reach_them",
            "statistics_by_hand::test_rounding_takes_no_bound_past_the_ends",
        ),
    ),
    "node": ("sgtr_jax/experiment/node.py", ("node",)),
    "draw": ("sgtr_jax/sample/sampling.py", ("draw",)),
    "pairs": ("sgtr_jax/data/pairs.py", ("pairs",)),
    "attention": (
        "sgtr_jax/models/attention.py",
        (
            "attention::test_short_rows",
            "attention::test_windows_of_kinds_of_layers",
            "attention::test_one_window_for_all_layers",
            "attention::test_rows_longer_than_a_block_of_queries",
            "attention::test_a_few_queries_among_the_keys_of_a_cache",
            "attention::test_dropout_of_the_weights",
            "attention::test_the_kernel_is_used_where_it_can_be",
            "attention::test_low_precision_is_that_of_the_values_alone",
            "attention::test_what_is_computed_is_no_more_than_is_needed",
            "oracles::test_each_query_sees_its_own_and_earlier_tokens_of_its_segment",
        ),
    ),
    "adapter": ("sgtr_jax/lora/adapter.py", ("adapters_by_hand",)),
    "lora": ("sgtr_jax/lora/transforms.py", ("adapters_by_hand", "oracles::test_adapters_are_merged_in_their_order")),
    "product": ("sgtr_jax/lora/product.py", ("product", "types::test_a_width_that_is_another_one_is_refused")),
    "replies": (
        "eval/sgtr_eval/judging/replies.py",
        ("replies", "taken_back", "judging::test_the_published_rule_reads_the_first_number"),
    ),
    "reply_json": ("eval/sgtr_eval/judging/reply_json.py", ("replies", "taken_back")),
    "second_thoughts": ("eval/sgtr_eval/judging/second_thoughts.py", ("replies", "taken_back")),
    "last_verdict": ("eval/sgtr_eval/judging/last_verdict.py", ("replies", "taken_back")),
    "whole_numbers": (
        "eval/sgtr_eval/judging/whole_numbers.py",
        ("first_digits", "numbering", "manners::test_the_mean_of_numbers_is_not_that_of_their_first_digits"),
    ),
    "judging": ("eval/sgtr_eval/judging/rates.py", ("judging", "oracles::test_the_judges_bounds_are_strict")),
}

_MORE_MEMORY = 6 * 2**30  # bytes that a fault may take beyond what it starts with
_FUTURE = "from __future__ import annotations\n"


@dataclass(frozen=True)
class Mutant:
    """One fault: a function's text with one small change."""

    name: str  # `function: line => line`, with `#2` where the same change is made at a second place
    function: str  # qualified name
    source: str


def module_name(path: str) -> str:
    """`eval/sgtr_eval/judging/rates.py` is imported as `sgtr_eval.judging.rates`."""
    return path.removeprefix("eval/").removesuffix(".py").replace("/", ".")


def path_of(name: str) -> str:
    """`loss` is `tests/test_loss.py`, `loss::test_x` is one test of that file."""
    file, *of = name.split("::")
    return "::".join([f"tests/test_{file}.py", *of])


def change(before: str, after: str) -> str:
    """The lines that differ, as `line => line`; several lines stand between ` / `."""
    old, new = ([line.strip() for line in text.splitlines()] for text in (before, after))
    spans = [s for s in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if s[0] != "equal"]
    was = [line for _, low, high, _, _ in spans for line in old[low:high] if line]
    now = [line for _, _, _, low, high in spans for line in new[low:high] if line]
    return f"{' / '.join(was) or '(nothing)'} => {' / '.join(now) or '(nothing)'}"


def numbered(names: Sequence[str]) -> list[str]:
    """The names, where a second and further equal one gets `#2`, `#3`."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return found


def explains(pattern: str, name: str) -> bool:
    """Whether a line of the list of survivors is about this mutant; `…` in it stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("…"))), name) is not None


def unexplained(survivors: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Survivors that no line is about."""
    return [name for name in survivors if not any(explains(pattern, name) for pattern in patterns)]


def without_purpose(survivors: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Lines that are about no survivor: a test finds the fault by now, or the code is another."""
    return [pattern for pattern in patterns if not any(explains(pattern, name) for name in survivors)]


def explained() -> dict[str, list[str]]:
    """Per module the lines of `docs/survivors.yaml`."""
    groups: dict[str, list[dict[str, Any]]] = yaml.safe_load(EXPLAINED.read_text(encoding="utf-8"))
    return {module: [line for group in of for line in group["mutants"]] for module, of in groups.items()}


def mutants_of(path: str) -> list[Mutant]:
    """Every fault that mutmut makes in the functions and methods of a module, those under a decorator too."""
    import libcst as cst
    from mutmut.mutation.file_mutation import create_mutations, deep_replace

    def bare(node: Any) -> Any:
        return node.with_changes(decorators=[]) if isinstance(node, cst.FunctionDef) else node

    tree = cst.parse_module((ROOT / path).read_text(encoding="utf-8"))
    body: list[Any] = []
    for node in tree.body:
        if isinstance(node, cst.ClassDef) and isinstance(node.body, cst.IndentedBlock):
            node = node.with_changes(body=node.body.with_changes(body=[bare(method) for method in node.body.body]))
        body.append(bare(node))
    tree, mutations, _, _ = create_mutations(path, tree.with_changes(body=body).code)
    owner = {
        method: node.name.value
        for node in tree.body
        if isinstance(node, cst.ClassDef)
        for method in node.body.body
        if isinstance(method, cst.FunctionDef)
    }
    names, functions, sources = [], [], []
    for mutation in mutations:
        inside = mutation.contained_by_top_level_function
        if not isinstance(inside, cst.FunctionDef):
            continue
        before = tree.code_for_node(inside)
        faulty: Any = deep_replace(inside, mutation.original_node, mutation.mutated_node)
        after = tree.code_for_node(faulty)
        function = f"{owner[inside]}.{inside.name.value}" if inside in owner else inside.name.value
        names.append(f"{function}: {change(before, after)}")
        if inside in owner:
            after = f"class {owner[inside]}:\n" + textwrap.indent(after, "    ")
        functions.append(function)
        sources.append(_FUTURE + after)
    return [Mutant(*parts) for parts in zip(numbered(names), functions, sources, strict=True)]


def put_in(module: ModuleType, mutant: Mutant) -> None:
    """Give the function of a loaded module the mutant's code and defaults, whoever holds the function already.

    Raises LookupError if there is no such function; what the mutant's own definition raises passes through.
    """
    space = dict(vars(module))
    exec(compile(mutant.source, str(module.__file__), "exec"), space)
    faulty: Any = space
    for part in mutant.function.split("."):
        faulty = faulty[part] if isinstance(faulty, dict) else vars(faulty)[part]
    found = [
        one for one in gc.get_objects()
        if isinstance(one, FunctionType) and one is not faulty
        and one.__code__.co_filename == module.__file__ and one.__code__.co_qualname == mutant.function
    ]  # fmt: skip
    if not found:
        raise LookupError(f"{module.__name__} has no function {mutant.function}")
    for one in found:
        one.__code__, one.__defaults__, one.__kwdefaults__ = faulty.__code__, faulty.__defaults__, faulty.__kwdefaults__


class _Collected:
    """Calls `work` with the tests that were collected, where pytest would have run them."""

    def __init__(self, work: Callable[[list[pytest.Item]], None]) -> None:
        self.work = work
        self.taken: dict[str, float] = {}  # seconds of each test, in the process that ran it
        self.failed = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.work(session.items)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.taken[report.nodeid] = self.taken.get(report.nodeid, 0.0) + report.duration
        self.failed = self.failed or report.failed

    def fails(self, items: Sequence[pytest.Item]) -> bool:
        """Run tests until one fails."""
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return True
        return False


def _fork(work: Callable[[], int], limit: float | None) -> int:
    """The exit code of `work` in a fork of its own; -1 where it was ended by a signal or took longer than `limit` s."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            os.setpgid(0, 0)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            with open("/proc/self/statm") as statm:  # noqa: PTH123 (of this process alone)
                size = int(statm.read().split()[0]) * resource.getpagesize() + _MORE_MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 1))
            code = work()
        finally:
            os._exit(code)
    end = time.monotonic() + (3 * limit if limit is not None else 1800)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else -1
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -1
        time.sleep(0.01)


def measure(name: str, again: bool) -> tuple[int, list[str]]:
    """How many mutants a module has, and the names of those that survived.

    `again`: the faults that the last run's tests found are taken as found, if the module is as it was then.
    """
    path, tests = MODULES[name][0], [path_of(of) for of in MODULES[name][1]]
    digest = hashlib.sha256((ROOT / path).read_bytes()).hexdigest()
    kept = RESULTS / f"{name}.json"
    before = json.loads(kept.read_text(encoding="utf-8")) if again and kept.exists() else {}
    known: dict[str, str] = before["mutants"] if before.get("module") == digest else {}
    mutants = mutants_of(path)
    became = {mutant.name: known.get(mutant.name, "survived") for mutant in mutants}

    def work(items: list[pytest.Item]) -> None:
        module = importlib.import_module(module_name(path))
        limit = _sort(name, items, plugin)
        print(f"{name}: {len(mutants)} mutants, {len(items)} tests, limit {limit:.0f} s", file=sys.stderr)
        for number, mutant in enumerate(mutants, 1):
            if became[mutant.name] == "survived":
                code = _fork(partial(_try, module, mutant, items, plugin), limit)
                if code == 5:
                    raise SystemExit(f"mutants: {path} has no function {mutant.function} when it is loaded")
                became[mutant.name] = "survived" if code == 0 else "killed" if code > 0 else "ended"
                if code == 0:
                    print(f"{name} {number} survived: {mutant.name}", file=sys.stderr, flush=True)

    plugin = _Collected(work)
    options = ["-qq", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::pytest.PytestWarning"]
    if code := pytest.main([*options, *tests], plugins=[plugin]):
        raise SystemExit(f"mutants: the tests of {name} cannot be run ({code}): python -m pytest {' '.join(tests)}")
    kept.write_text(json.dumps({"module": digest, "mutants": became}, indent=1, ensure_ascii=False), encoding="utf-8")
    return len(mutants), [mutant for mutant, what in became.items() if what == "survived"]


def _sort(name: str, items: list[pytest.Item], plugin: _Collected) -> float:
    """Put the quickest tests first; returns the seconds that a faulty run may take.

    Raises SystemExit if a test fails without a fault.
    """
    from jax._src import xla_bridge

    if xla_bridge.backends_are_initialized():
        raise SystemExit(f"mutants: importing the tests of {name} starts JAX, which no fork survives")
    clock = RESULTS / f"{name}.times"

    def sound() -> int:
        failed = plugin.fails(items)
        clock.write_text(json.dumps(plugin.taken), encoding="utf-8")
        return int(failed)

    began = time.monotonic()
    if _fork(sound, None) != 0:
        raise SystemExit(
            f"mutants: a test of {name} fails without a fault: python -m pytest {' '.join(MODULES[name][1])}"
        )
    times = json.loads(clock.read_text(encoding="utf-8"))
    clock.unlink()
    items.sort(key=lambda item: times[item.nodeid])
    return 3 * (time.monotonic() - began) + 20


def _try(module: ModuleType, mutant: Mutant, items: Sequence[pytest.Item], plugin: _Collected) -> int:
    """Exit code of a fork: 0 where no test fails, 1 where one does, 5 where there is nothing to put the mutant into."""
    try:
        put_in(module, mutant)
    except LookupError:
        return 5
    except Exception:  # noqa: BLE001 (whatever a faulty definition raises, it would be seen at once)
        return 1
    return int(plugin.fails(items))


def _prepared() -> None:
    """What has to be so before the first test is imported."""
    import hypothesis

    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # a failure is enough, it need not be a short one
    hypothesis.settings.register_profile("mutants", phases=phases, derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("mutants")
    warnings.filterwarnings("ignore", message=".*os.fork.*")
    os.chdir(ROOT)
    RESULTS.mkdir(exist_ok=True)


def _lines(names: Sequence[str], again: bool) -> Iterator[tuple[bool, str]]:
    """Per module whether all is well, and a line of the table."""
    of = explained()
    for name in names:
        began = time.monotonic()
        count, survivors = measure(name, again)
        open_ones = unexplained(survivors, of.get(name, []))
        for line in open_ones:
            print(f"{name}: unexplained: {line}", file=sys.stderr)
        for line in without_purpose(survivors, of.get(name, [])):
            print(f"{name}: docs/survivors.yaml explains what does not survive: {line}", file=sys.stderr)
        numbers = (count, count - len(survivors), len(survivors), len(open_ones), (time.monotonic() - began) / 60)
        yield not open_ones, "| {} | {} | {} | {} | {} | {:.1f} |".format(MODULES[name][0], *numbers)


def main() -> int:
    """Measure the modules that are named, or all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)}; all without any")
    parser.add_argument("--again", action="store_true", help="try only what survived in the last run")
    args = parser.parse_args()
    if unknown := [name for name in args.modules if name not in MODULES]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(MODULES)}")
    _prepared()
    print("| module | mutants | killed | survived | unexplained | minutes |\n|---|---|---|---|---|---|", flush=True)
    well = True
    for is_well, line in _lines(args.modules or list(MODULES), args.again):
        print(line, flush=True)
        well = well and is_well
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
