"""Bytes that a compiled program moves between chips, counted in its HLO text."""

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


@dataclass
class _Computation:
    own: list[tuple[str, str, int]] = field(default_factory=list)  # (kind, channel, bytes) of its collectives
    # (computation, its loop's condition, how often the compiler says it runs)
    called: list[tuple[str, str | None, int | None]] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)  # constants in it
    counts_up: bool = False  # whether it asks if a counter is below a constant


def collective_bytes(compiled: Compiled) -> dict[str, int]:
    """Bytes of the results of all collectives in one execution, by kind; loop bodies times their trip count.

    The compiler spreads one asynchronous collective over several instructions of the same channel, some of them in
    inner loops beside which it runs: it is counted once, as often as the outermost of them. Raises ValueError for a
    collective in a loop of unknown length.
    """
    computations, entry = _parse(compiled.as_text() or "")
    found: dict[tuple[str, str], tuple[int, int]] = {}  # (kind, channel): (bytes, times)

    def walk(name: str, times: int) -> None:
        for kind, channel, size in computations[name].own:
            if times < 0:
                raise ValueError(f"{name}: a {kind} in a loop of unknown length")
            bytes_before, times_before = found.get((kind, channel), (0, times))
            found[kind, channel] = (max(size, bytes_before), min(times, times_before))
        for called, condition, known in computations[name].called:
            trips = 1 if condition is None else known if known is not None else _trips(computations[condition])
            if called in computations:
                walk(called, -1 if times < 0 or trips < 0 else times * trips)

    walk(entry, 1)
    totals: dict[str, int] = {}
    for (kind, _), (size, times) in found.items():
        totals[kind] = totals.get(kind, 0) + size * times
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
            size = _result_bytes(result, operation.endswith("-start"))
            current.own.append((kind, channel.group(1) if channel else f"line {number}", size))
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
