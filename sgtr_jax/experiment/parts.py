"""A run cut into parts, for as many machines: along stages that conditions share, so that few wait for each other."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sgtr_jax.experiment.evaluation_node import EvaluationNode
from sgtr_jax.experiment.node import in_order
from sgtr_jax.experiment.training_node import TrainingNode

_TRAININGS = 8  # a training counts as so many measurements where parts are to be of one size


class Part(NamedTuple):
    """One of several parts, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parsed(cls, text: str) -> Part:
        """`2/4`. Raises argparse.ArgumentTypeError."""
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise argparse.ArgumentTypeError(f"{text!r}: expected i/n with i from 1 to n, as 2/4")
        return cls(int(number), int(of))


@dataclass(frozen=True)
class _Group:
    """Measurements whose models have the same first stages."""

    members: tuple[EvaluationNode, ...]
    stages: int  # that they have in common

    @property
    def size(self) -> int:
        return sum(_TRAININGS if isinstance(one, TrainingNode) else 1 for one in in_order(self.members))

    def split(self) -> list[_Group]:
        """By the next stage; alone what has no further one."""
        found: dict[str, list[EvaluationNode]] = {}
        for one in self.members:
            key = one.chain[self.stages] if len(one.chain) > self.stages else one
            found.setdefault(key.fingerprint, []).append(one)
        return [_Group(tuple(members), self.stages + 1) for members in found.values()]


def assigned(wanted: Sequence[EvaluationNode], parts: int) -> Mapping[str, int]:
    """The part of each artifact, from 1, by fingerprint: the same on every machine, whatever is done already.

    Measurements of models with the same first stage are in one part, unless that part were more than its share. What
    several parts need is made by the first of them.
    """
    groups = _Group(tuple({one.fingerprint: one for one in wanted}.values()), 0).split()
    share = sum(group.size for group in groups) / parts
    groups.sort(key=lambda one: -one.size)
    while groups and groups[0].size > share and len(finer := groups[0].split()) > 1:
        groups = sorted([*groups[1:], *finer], key=lambda one: -one.size)
    sizes, members = [0] * parts, [list[EvaluationNode]() for _ in range(parts)]
    for group in groups:  # the largest first, each to the part that has least
        least = min(range(parts), key=sizes.__getitem__)
        sizes[least] += group.size
        members[least] += group.members
    found: dict[str, int] = {}
    for number, of_part in enumerate(members, 1):
        for node in in_order(of_part):
            found.setdefault(node.fingerprint, number)
    return found
