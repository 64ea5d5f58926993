"""From an experiment's config to the graph of its artifacts."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

from sgtr_jax.config import Config
from sgtr_jax.data.build import Stimuli
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.asked import Asked, Base
from sgtr_jax.experiment.conditions import Condition, Stage
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.data_node import DataNode
from sgtr_jax.experiment.evaluation_node import EvaluationNode
from sgtr_jax.experiment.made_from import Part
from sgtr_jax.experiment.node import Node, in_order
from sgtr_jax.experiment.nodes.adapter import AdapterNode
from sgtr_jax.experiment.nodes.finetuned import FinetunedNode
from sgtr_jax.experiment.nodes.kept_adapter import KeptAdapterNode
from sgtr_jax.experiment.nodes.released import released
from sgtr_jax.experiment.nodes.selected import SelectedRows
from sgtr_jax.experiment.services import JudgeConfig
from sgtr_jax.experiment.start import Start
from sgtr_jax.experiment.training_node import Link, TrainingNode
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.sample.config import SampleConfig
from sgtr_jax.sample.folders import resolve_folder
from sgtr_jax.train.config import Point, TrainConfig

N = TypeVar("N", bound=Node)
NOT_HERE = "not here"  # stands for the fingerprint of a model whose weights are not on this machine


@dataclass(frozen=True)
class Cell:
    """One evaluation of one model: a condition at a seed."""

    condition: str
    seed: int
    evaluation: str
    node: EvaluationNode


@dataclass(frozen=True)
class Graph:
    """The measurements wanted, each with the node that makes it."""

    config: ExperimentConfig
    cells: tuple[Cell, ...]

    def nodes(self) -> list[Node]:
        """All artifacts, each once, inputs before what is made from them."""
        return list(self._in_order)

    @cached_property
    def _in_order(self) -> tuple[Node, ...]:
        with _nothing_collected():
            return tuple(in_order([cell.node for cell in self.cells]))


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Without the search for garbage: a study keeps tens of thousands of nodes, which are all looked through."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class GraphBuilder:
    """Makes nodes from a config. Equal stages of two conditions become one node."""

    def __init__(self, config: ExperimentConfig, fingerprint: str | None) -> None:
        self._config = config
        self._data: dict[tuple[str, int], DataNode] = {}
        self._asked: dict[str | None, Asked] = {}
        self._shared: dict[Hashable, Node] = {}
        self._chains: dict[tuple[str, int], tuple[Link, ...]] = {}
        if config.api_model is not None:
            fingerprint = f"API at {config.api.base_url or 'its usual address'}"
        elif fingerprint is None:
            fingerprint = model_fingerprint(resolve_folder(config.model))
        self._base = Base(config.model, fingerprint)

    @property
    def stimuli(self) -> Stimuli | None:
        """The experiment's texts for evaluations and pairs that do not choose themselves."""
        return self._config.stimuli

    @property
    def specs(self) -> list[Config]:
        """The configs of all data sets and evaluations, whatever part of them is wanted."""
        return [*self._config.data.values(), *self._config.evaluations.values()]

    def shared(self, key: Hashable, make: Callable[[], N]) -> N:
        """The node that was made under this key, or a new one: what many cells need is one node, and hashed once."""
        if key not in self._shared:
            self._shared[key] = make()
        return cast(N, self._shared[key])

    @property
    def judge(self) -> JudgeConfig:
        """Who judges."""
        return self._config.judge

    def asked(self, condition: str | None) -> Asked:
        """The base model, and how it is talked to under the system prompt of a condition (None: the experiment's)."""
        if condition not in self._asked:
            finetuning = self._config.finetuning
            system = None if condition is None else self._config.conditions[condition].system
            sampling = SampleConfig(
                dtype=finetuning.dtype,
                system=finetuning.system if system is None else system,
                thinking_budget=finetuning.thinking_budget,
                merge=finetuning.merge,
                steer=None if condition is None else self._config.conditions[condition].steer,
            )
            self._asked[condition] = Asked(self._base, sampling)
        return self._asked[condition]

    def data(self, name: str, seed: int) -> DataNode:
        """A data set of the experiment by name."""
        if (name, seed) not in self._data:
            self._data[name, seed] = self._config.data[name].node(name, seed, self)
        return self._data[name, seed]

    @property
    def first_seed(self) -> int:
        """The seed of what is the same for all models, the base model too."""
        return self._config.seeds[0]

    def direction(self, name: str, seed: int) -> Node:
        """A direction of the experiment by name."""
        return self.shared(("direction", name, seed), lambda: self._config.directions[name].node(name, seed, self))

    def chain(self, condition: str, seed: int) -> tuple[Link, ...]:
        """The finetuned models of a condition: what it starts from, if anything, and one for each stage."""
        if (condition, seed) not in self._chains:
            whole = self._config.conditions[condition]
            chain: tuple[Link, ...] = ()
            if whole.start is not None:
                one, at = whole.start, seed if whole.start.has_seeds else None
                chain = (self.shared(("start", one, at), lambda: released(one, seed, self._base)),)
            for number in range(len(whole.stages)):
                chain = (*chain, self._stage(whole, number, seed, chain))
            self._chains[condition, seed] = chain
        return self._chains[condition, seed]

    def _stage(self, condition: Condition, number: int, seed: int, chain: tuple[Link, ...]) -> TrainingNode:
        stage, config = condition.stages[number], self._config
        begun = [] if condition.start is None else [chain[0].name]
        name = f"{'+'.join([*begun, *(one.label for one in condition.stages[: number + 1])])}-s{seed}"
        parts = (
            name, self._base,
            self._training(condition, stage, seed, is_first=all(link.replaces_base for link in chain)),
            self.data(stage.data, seed), chain,
            stage.interleave, self._mixed_in(stage, seed),
            stage.match, None if stage.match is None else self.data(stage.match.data, seed),
            {penalty: self.data(data, seed) for penalty, data in stage.penalty_data.items()},
            self._inoculation_adapter(stage, seed), self._direction(stage, seed),
        )  # fmt: skip
        if config.api_model is not None:
            return FinetunedNode(*parts, config.api)
        whole = AdapterNode(*parts)
        return whole if stage.ends_at is None else KeptAdapterNode.of(whole, stage.ends_at)

    def _mixed_in(self, stage: Stage, seed: int) -> DataNode | None:
        mixed = stage.interleave
        if mixed is None or mixed.aligned is None or mixed.misaligned is None:
            return None if mixed is None else self.data(mixed.data, seed)
        return SelectedRows(
            self.data(mixed.data, seed), self.asked(None), self.chain(mixed.aligned, seed),
            self.chain(mixed.misaligned, seed), self._config.finetuning.max_length, mixed.keep,
            self.data(stage.data, seed), mixed,
        )  # fmt: skip

    def _direction(self, stage: Stage, seed: int) -> Node | None:
        return None if stage.direction is None else self.direction(stage.direction, seed)

    def _inoculation_adapter(self, stage: Stage, seed: int) -> Link | None:
        name = stage.inoculation_adapter
        if name is None:
            return None
        if name in self._config.conditions:
            return self.chain(name, seed)[-1]
        start = Start(adapter=name)
        at = seed if start.has_seeds else None
        return self.shared(("start", start, at), lambda: released(start, seed, self._base))

    def _training(self, condition: Condition, stage: Stage, seed: int, is_first: bool) -> TrainConfig:
        system = stage.system if stage.system is not None else condition.system
        own = {"epochs": stage.epochs, "inoculation": stage.inoculation, "system": system}
        changes: dict[str, int | str | tuple[Point, ...] | None] = {
            "seed": seed,
            "measure_at": stage.kept_at,
            **{key: value for key, value in own.items() if value is not None},
        }
        if is_first:
            changes["merge"] = None  # nothing below to merge
        return stage.over(self._config.finetuning).model_copy(update=changes)


def build_graph(config: ExperimentConfig, fingerprint: str | None = None) -> Graph:
    """Expand a config. Conditions without stages and starts by seed do not depend on a seed and are measured once.

    `fingerprint` stands for the model where its weights are not here, to plan with: nothing is found done then.
    Raises InputError for a model that does not exist, and for files and sets that do not, with all of them.
    """
    builder = GraphBuilder(config, fingerprint)
    _check_sources(config, builder)
    with _nothing_collected():
        cells = [
            Cell(condition, seed, name, spec.node(name, condition, seed, builder))
            for condition, whole in config.wanted_conditions.items()
            for seed in (config.seeds if whole.has_seeds else config.seeds[:1])
            for name, spec in config.wanted_evaluations.items()
        ]
    return Graph(config, tuple(cells))


def _check_sources(config: ExperimentConfig, builder: GraphBuilder) -> None:
    """Raises InputError with every data set and evaluation whose files or sets are missing or broken, a line each."""
    conditions, seed = config.wanted_conditions, config.seeds[0]
    needed = {part for name in conditions for part in config.parts.all_of(Part("condition", name))}
    used = [Part("data", name) for name in config.data if Part("data", name) in needed]
    problems: dict[str, None] = {}
    broken: set[Part] = set()
    # A set that a model writes comes after those that the model is trained on.
    for part in sorted(used, key=lambda one: len(config.parts.all_of(one))):
        if broken & config.parts.all_of(part):
            continue
        try:
            builder.data(part.name, seed)
        except InputError as error:
            broken.add(part)
            problems[f"{part}: {error}"] = None
    asked = config.base_condition or (None if problems else next(iter(conditions)))
    if asked is not None:  # a condition that can be built
        for name, spec in config.wanted_evaluations.items():
            try:
                spec.node(name, asked, seed, builder)
            except InputError as error:
                text = str(error).removeprefix(f"evaluation {name!r}: ")
                problems[f"evaluation {name!r}: {text}"] = None
    if problems:
        raise InputError("\n".join(problems))
