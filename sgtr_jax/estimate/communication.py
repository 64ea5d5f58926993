"""What a compiled program moves between chips, and which of it runs while they compute, read in its HLO text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from jax.stages import Compiled

_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}
_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_ARRAY = re.compile(r"\b(pred|s8|u8|bf16|f16|s16|u16|f32|s32|u32|f64)\[([0-9,]*)\]")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*->.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*?) ([a-z][\w\-]*)\((.*)$")
_CALLS = re.compile(r"(?:calls|to_apply|body|branch_computations)=\{?%?([\w.\-]+)")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_KNOWN_TRIPS = re.compile(r'known_trip_count\\?":\{\\?"n\\?":\\?"(\d+)')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
# Where libtpu spreads a collective over fusions that compute, the fusion that begins it ends with this call.
_BEGINS = 'custom_call_target="AsyncCollectiveStart"'


@dataclass(frozen=True)
class Collective:
    """A collective of a program's schedule: its kind, bytes of its result, and how often it runs in one execution.

    An asynchronous one begins in one instruction and ends in another, and chips compute between the two. All chips
    wait for one that is not.
    """

    kind: str
    size: int
    times: int
    is_asynchronous: bool

    @property
    def moved(self) -> int:
        """Bytes in one execution of the program."""
        return self.size * self.times


@dataclass
class _Computation:
    # (kind, channel, bytes, whether it only begins here) of its collectives
    own: list[tuple[str, str, int, bool]] = field(default_factory=list)
    # (computation, its loop's condition, how often the compiler says it runs)
    called: list[tuple[str, str | None, int | None]] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)  # constants in it
    counts_up: bool = False  # whether it asks if a counter is below a constant
    begins: bool = False  # whether it is a fusion that begins an asynchronous collective


def collectives(compiled: Compiled) -> list[Collective]:
    """All collectives of one execution; those in loop bodies run as often as the loop.

    The compiler spreads one asynchronous collective over several instructions of the same channel, some of them in
    inner loops beside which it runs: it is counted once, as often as the outermost of them. Raises ValueError for a
    collective in a loop of unknown length.
    """
    computations, entry = _parse(compiled.as_text() or "")
    found: dict[tuple[str, str], Collective] = {}  # by kind and channel

    def walk(name: str, times: int) -> None:
        computation = computations[name]
        for kind, channel, size, is_start in computation.own:
            if times < 0:
                raise ValueError(f"{name}: a {kind} in a loop of unknown length")
            before = found.get((kind, channel), Collective(kind, 0, times, False))
            begins = before.is_asynchronous or is_start or computation.begins
            found[kind, channel] = Collective(kind, max(size, before.size), min(times, before.times), begins)
        for called, condition, known in computation.called:
            trips = 1 if condition is None else known if known is not None else _trips(computations[condition])
            if called in computations:
                walk(called, -1 if times < 0 or trips < 0 else times * trips)

    walk(entry, 1)
    return list(found.values())


def collective_bytes(compiled: Compiled) -> dict[str, int]:
    """Bytes of the results of all collectives in one execution, by kind. Raises ValueError as `collectives` does."""
    totals: dict[str, int] = {}
    for one in collectives(compiled):
        totals[one.kind] = totals.get(one.kind, 0) + one.moved
    return totals


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
    computations: dict[str, _Computation] = {}
    entry, current = "", _Computation()
    for number, line in enumerate(text.splitlines()):
        if (header := _COMPUTATION.match(line)) is not None:
            current = computations[header.group(1)] = _Computation()
            if line.startswith("ENTRY"):
                entry = header.group(1)
            continue
        if (instruction := _INSTRUCTION.match(line)) is None:
            continue
        result, operation, rest = instruction.groups()
        kind = operation.removesuffix("-start")
        if kind in _KINDS:
            channel = _CHANNEL.search(rest)
            is_start = operation.endswith("-start")
            where = channel.group(1) if channel else f"line {number}"
            current.own.append((kind, where, _result_bytes(result, is_start), is_start))
        current.begins |= _BEGINS in rest
        if operation == "constant" and re.match(r"[su]32\[\]", result):
            current.limits.append(int(rest.split(")")[0]))
        current.counts_up |= operation == "compare" and "direction=LT" in rest
        condition = _CONDITION.search(rest)
        for called in _CALLS.findall(rest):
            known = _KNOWN_TRIPS.search(rest)
            current.called.append(
                (called, condition.group(1) if condition else None, int(known.group(1)) if known else None)
            )
    return computations, entry


def _trips(condition: _Computation) -> int:
    """How often a loop runs that counts from 0 up to a constant, as scans do; -1 if it is another kind of loop."""
    return condition.limits[0] if condition.counts_up and len(condition.limits) == 1 else -1


def _result_bytes(result: str, is_start: bool) -> int:
    """Bytes of an instruction's result; a start returns (operands, results, ...): the largest is the result."""
    sizes = []
    for kind, dims in _ARRAY.findall(result):
        count = 1
        for dim in filter(None, dims.split(",")):
            count *= int(dim)
        sizes.append(count * _SIZES[kind])
    return max(sizes, default=0) if is_start else sum(sizes)
