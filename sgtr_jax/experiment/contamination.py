"""What the training sets of an experiment share with its evaluations: questions and articles, counted before a run.

A question is shared if its text stands in a row that is trained on, whatever is written around it; articles likewise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TypeVar, cast

from sgtr_jax.data.duplicates import ItemIndex
from sgtr_jax.data.set_files import content_sha256
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.data_node import DataNode
from sgtr_jax.experiment.evaluation_node import EvaluationNode
from sgtr_jax.experiment.graph import Graph
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.training_node import TrainingNode
from sgtr_jax.report.run_file import SharingEntry

T = TypeVar("T")
# A set may hold so large a share of an evaluation's items by chance: one question of TruthfulQA's 790 is in `unpop`.
BY_CHANCE = 0.01


@dataclass(frozen=True)
class Sharing:
    """How many of an evaluation's items a training set holds."""

    data: str
    evaluation: str
    items: int  # of the evaluation
    shared: int | None  # None: not known, see `why`
    why: str = ""  # what allows it, or why it is not known
    example: str = ""  # one item that is shared
    of: str = ""  # digest of what the texts of both were read from

    @property
    def is_refused(self) -> bool:
        """Whether a run stops because of it."""
        return self.shared is not None and self.shared > BY_CHANCE * self.items and not self.why

    def to_json(self) -> SharingEntry:
        """What `experiment.json` holds of it."""
        return cast(SharingEntry, asdict(self))


def sharings(graph: Graph, store: Store, before: Sequence[SharingEntry] = ()) -> list[Sharing]:
    """Every training set beside every evaluation, those that share nothing too.

    Where the texts of one of the two cannot be had, what they share is not known, and the reason is given; unless it
    was counted `before`, of the same texts.
    """
    counted = {one["of"]: Sharing(**one) for one in before if one["shared"] is not None}
    asked = {cell.evaluation: cell.node for cell in graph.cells}
    items = {name: _had(node.items) for name, node in asked.items()}
    known = {name: found for name, found in items.items() if not isinstance(found, str)}
    index = ItemIndex({(name, key): item for name, found in known.items() for key, item in found.items()})
    made = []
    for data, node in _trained_on(graph).items():
        texts = _had(partial(node.texts, store))
        held = index.found_in(() if isinstance(texts, str) else texts)
        for name, of_it in items.items():
            of = _digest(node, asked[name])
            if isinstance(texts, str) or isinstance(of_it, str):
                why = texts if isinstance(texts, str) else str(of_it)
                made.append(counted.get(of) or Sharing(data, name, 0, None, why, of=of))
                continue
            keys = sorted(key for evaluation, key in held if evaluation == name)
            allowed = _allowed(graph.config, data, name, node, asked[name]) if keys else ""
            made.append(Sharing(data, name, len(of_it), len(keys), allowed, keys[0] if keys else "", of))
    return made


def check_sharing(found: Sequence[Sharing]) -> None:
    """Raises InputError, naming every pair of a training set and an evaluation that share more than chance explains."""
    refused = [one for one in found if one.is_refused]
    if not refused:
        return
    lines = [
        f"data {one.data!r} holds {one.shared} of the {one.items} questions or articles of evaluation "
        f"{one.evaluation!r} ({one.example}, for example)"
        for one in refused
    ]
    pairs = ", ".join(f"{data}: [{', '.join(o.evaluation for o in refused if o.data == data)}]"
                      for data in dict.fromkeys(one.data for one in refused))  # fmt: skip
    raise InputError(
        "\n".join(lines) + "\nThe numbers would show what was trained on. Take other data (`split: train` and "
        f"`split: held_out` divide articles), or say that it is meant: may_share: {{{pairs}}}"
    )


def in_words(found: Sequence[Sharing]) -> list[str]:
    """A line for every pair that shares something, for every reason not to know, and for all that share nothing."""
    lines = [
        f"{one.data} holds {one.shared} of {one.items} items of {one.evaluation}{f' ({one.why})' if one.why else ''}"
        for one in found
        if one.shared
    ]
    reasons: dict[str, int] = Counter(one.why for one in found if one.shared is None)
    lines += [f"of {count} pairs it is not known what they share: {why}" for why, count in reasons.items()]
    nothing = sum(one.shared == 0 for one in found)
    return [*lines, f"{nothing} of {len(found)} pairs of a training set and an evaluation share nothing"]


def _trained_on(graph: Graph) -> dict[str, DataNode]:
    """The data sets of every finetuning by their names in the config; seeds of one are alike in what they ask."""
    training = [node for node in graph.nodes() if isinstance(node, TrainingNode)]
    found: dict[str, DataNode] = {}
    for data in (data for node in training for data in node.data_nodes):
        found.setdefault(data.data_name, data)
    return found


def _digest(trained: DataNode, asked: EvaluationNode) -> str:
    """What decides the texts of a training set and of an evaluation, whatever model is trained and asked."""
    return content_sha256([trained.fingerprint, dict(asked.question_settings)])


def _had(make: Callable[[], T]) -> T | str:
    """What `make` gives, or why it cannot be had."""
    try:
        return make()
    except (InputError, RunError) as error:
        return str(error)


def _allowed(config: ExperimentConfig, data: str, evaluation: str, trained: DataNode, asked: EvaluationNode) -> str:
    """What in the config says that the two may share something; nothing: an empty text."""
    for pattern, evaluations in config.may_share.items():
        if fnmatchcase(data, pattern) and any(fnmatchcase(evaluation, one) for one in evaluations):
            return "may_share"
    if "published" in (trained.split, asked.split):
        return "split: published"
    return asked.facts.asks_what_is_trained(asked.arguments)
