"""TPU slices by the names people rent them under, and what their chips can do."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sgtr_jax.errors import InputError


@dataclass(frozen=True)
class Chip:
    """One chip of a generation, as its maker publishes it."""

    memory_gib: float  # of which a program may use
    tflops: float  # bfloat16
    memory_gb_s: float
    link_gb_s: float  # to other chips: all its links together, or those that it has in a slice

    @property
    def memory_gb(self) -> float:
        """Its memory in units of 1e9 bytes."""
        return self.memory_gib * 2**30 / 1e9


# cloud.google.com/tpu/docs/v4, v5e, v5p and v6e, November 2026; links of 300, 200, 600 and 400 GB/s are 2,400, 1,600,
# 4,800 and 3,200 Gbps.
CHIPS = {
    "v4": Chip(31.25, 275, 1228, 300),
    "v5e": Chip(15.75, 197, 819, 200),
    "v5p": Chip(95.0, 459, 2765, 600),
    "v6e": Chip(31.25, 918, 1600, 400),
}
# What JAX calls a chip: a generation.
_KINDS = {"TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v5p": "v5p", "TPU v6 lite": "v6e"}
# Of hardware without a line above: no limit, and peaks that make the bytes between devices decide.
UNKNOWN = Chip(math.inf, math.inf, math.inf, 1.0)
# Grids by the number of chips.
_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_DEEP = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8"}
_DEEP_GENERATIONS = ("v4", "v5p")
_ALIASES = {"v5litepod": "v5e", "v5lite": "v5e"}


@dataclass(frozen=True)
class Slice:
    """A slice: `name` as given, `topology` as libtpu calls it."""

    name: str
    generation: str
    chips: int
    topology: str

    @property
    def chip(self) -> Chip:
        """What each of its chips can do, a corner's links counted."""
        sides = [int(side) for side in self.topology.partition(":")[2].split("x")]
        return _in_grid(self.generation, sides)


def chip_of(device_kind: str, coords: Sequence[Sequence[int]] = ()) -> Chip:
    """What a device of this kind (`jax.Device.device_kind`) can do; `UNKNOWN` for others than TPUs.

    `coords` are the places of all devices in their slice (`Device.coords`), which say how many links each has.
    """
    if device_kind not in _KINDS:
        return UNKNOWN
    generation = _KINDS[device_kind]
    if not coords:
        return CHIPS[generation]
    return _in_grid(generation, [1 + max(axis) - min(axis) for axis in zip(*coords, strict=True)])


def _in_grid(generation: str, sides: Sequence[int]) -> Chip:
    """A chip at the corner of a grid, where a collective takes longest.

    Each axis has two links of a chip. Its ends are joined on v5e and v6e from 16 chips on, and on v4 and v5p where
    every side is a multiple of four; elsewhere the chips at the ends have one link. A side of one chip has none.
    """
    deep = generation in _DEEP_GENERATIONS
    joined = all(side % 4 == 0 for side in sides)
    links = sum(2 if (joined if deep else side >= 16) else min(1, side - 1) for side in sides)
    chip = CHIPS[generation]
    return replace(chip, link_gb_s=chip.link_gb_s * links / (6 if deep else 4)) if links else chip


def find_slice(name: str) -> Slice:
    """The slice people call `v5e-16`, `v5litepod-16`, `v4-32` (v4 and v5p count cores, two to a chip) or `v6e:2x4`.

    Raises InputError that lists the sizes there are.
    """
    match = re.fullmatch(r"([a-z0-9]+?)(?:-(\d+)|:(\d+(?:x\d+){1,2}))", name.strip().lower())
    generation = _ALIASES.get(match.group(1), match.group(1)) if match else ""
    if match is None or generation not in CHIPS:
        raise InputError(f"topology {name!r}: expected GENERATION-SIZE with one of {', '.join(CHIPS)}: v5e-16, v4-32")
    deep = generation in _DEEP_GENERATIONS
    grids, per_chip = (_DEEP, 2) if deep else (_FLAT, 1)
    if match.group(3):
        chips = 1
        for side in match.group(3).split("x"):
            chips *= int(side)
        return Slice(name, generation, chips, f"{generation}:{match.group(3)}")
    chips, rest = divmod(int(match.group(2)), per_chip)
    if rest or chips not in grids:
        sizes = ", ".join(f"{generation}-{count * per_chip}" for count in grids)
        raise InputError(f"topology {name!r}: {generation} slices are {sizes}")
    return Slice(name, generation, chips, f"{generation}:{grids[chips]}")
