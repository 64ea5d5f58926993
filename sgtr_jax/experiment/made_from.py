"""What the parts of an experiment's file are made from: conditions from data, directions and each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from sgtr_jax.experiment.conditions import Condition
    from sgtr_jax.experiment.nodes.direction import DirectionConfig


class Part(NamedTuple):
    """A data set, a condition or a direction of an experiment's file."""

    what: Literal["data", "condition", "direction"]
    name: str

    def __str__(self) -> str:
        return f"{self.what} {self.name!r}"


class Written(Protocol):
    """A data set's config."""

    def condition_needed(self) -> str | None:
        """The condition whose model writes its rows; None: none."""


class Parts(NamedTuple):
    """All parts of a file by name."""

    data: Mapping[str, Written]
    conditions: Mapping[str, Condition]
    directions: Mapping[str, DirectionConfig]

    def made_from(self, part: Part) -> list[Part]:
        """The parts that are needed to make one."""
        if part.what == "data":
            writer = self.data[part.name].condition_needed()
            return [] if writer is None else [Part("condition", writer)]
        if part.what == "direction":
            read = self.directions[part.name]
            return [*(Part("data", one) for one in read.data_names),
                    *(Part("condition", one) for one in read.conditions)]  # fmt: skip
        found: list[Part] = []
        for stage in self.conditions[part.name].stages:
            found += [Part("data", one) for one in stage.data_names]
            found += [Part("condition", one) for one in stage.conditions]
            if stage.direction is not None:
                found.append(Part("direction", stage.direction))
            if stage.inoculation_adapter in self.conditions:
                found.append(Part("condition", str(stage.inoculation_adapter)))
        return found

    def all_of(self, part: Part) -> set[Part]:
        """All that is needed to make a part, through others too."""
        found: set[Part] = set()
        todo = [part]
        while todo:
            new = set(self.made_from(todo.pop())) - found
            found |= new
            todo += new
        return found

    def check_no_cycle(self) -> None:
        """Raise ValueError with the parts of a cycle, in order: none of them could ever be made."""
        done: set[Part] = set()
        for part in (
            *(Part("data", name) for name in self.data),
            *(Part("condition", name) for name in self.conditions),
        ):
            self._follow(part, [], done)

    def _follow(self, part: Part, way: list[Part], done: set[Part]) -> None:
        if part in way:
            cycle = [*way[way.index(part) :], part]
            needs = ", which needs ".join(map(str, cycle[1:]))
            raise ValueError(
                f"{part} can never be made: it needs {needs}. Train or sample one of them without the other"
            )
        if part in done:
            return
        for one in self.made_from(part):
            self._follow(one, [*way, part], done)
        done.add(part)
