"""What a run costs, before it is started: rows and tokens as far as settings say, dollars by the price list."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from sgtr_eval.facts import Facts, Workload
from sgtr_eval.judging.budget import cost_of, finetuned_cost_of, price_list, training_cost_of
from sgtr_jax.data.lengths import Lengths, shipped_lengths
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.asked import api_model_name
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.data_node import RECORDS, DataNode
from sgtr_jax.experiment.evaluation_node import EvaluationNode
from sgtr_jax.experiment.graph import Graph
from sgtr_jax.experiment.node import Node
from sgtr_jax.experiment.services import JudgeConfig
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.training_node import TrainingNode

_JUDGE_TOKENS = 700  # of one question to the judge: its prompt with an answer


@dataclass(frozen=True)
class Training:
    """A run to be trained: examples (None: unknown), how long they are, optimizer steps.

    `relative` is the cost of a step over that of a plain one. A plain step of LoRA is three passes (forward,
    recomputed, backward); a penalty adds a forward pass of the reference, and over rows of its own a whole step, too.
    """

    node: TrainingNode
    examples: int | None
    lengths: Lengths
    steps: int | None
    relative: float = 1.0


@dataclass(frozen=True)
class Bill:
    """Dollars; NaN where the price list has no price."""

    finetuning: float
    sampling: float
    judging: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.finetuning + self.sampling + self.judging


def bill(graph: Graph, missing: Sequence[Node], store: Store) -> Bill:
    """What making `missing` costs. Finetuning and sampling of models of ours cost no dollars here."""
    config = graph.config
    finetuning = sampling = 0.0
    if config.api_model is not None:
        for node in missing:
            if isinstance(node, TrainingNode):
                finetuning += training_cost_of(config.model, _training_tokens(node, store) * node.training.epochs)
            elif (one := node.sampled()) is not None:
                price = finetuned_cost_of if any(isinstance(n, TrainingNode) for n in node.inputs.values()) else cost_of
                prompts, answers = one.answers * one.prompt_tokens, one.answers * one.answer_tokens
                sampling += price(config.model, prompts, answers, config.api.batch)
    return Bill(finetuning, sampling, sum(judging_of(config, missing).values()))


def judging_of(config: ExperimentConfig, missing: Sequence[Node]) -> dict[str, float]:
    """What judging costs, by artifact."""
    return {
        node.folder: judging_cost(judge_name(judge, config.model), judge.batch, node.facts, node.workload())
        for judge, nodes in by_judge(missing).items()
        for node in nodes
    }


def by_judge(nodes: Sequence[Node]) -> dict[JudgeConfig, list[EvaluationNode]]:
    """The evaluations among some nodes that each judge reads the answers of."""
    found: dict[JudgeConfig, list[EvaluationNode]] = {}
    for node in judged_nodes(nodes):
        assert node.judged_by is not None  # it has answers to judge
        found.setdefault(node.judged_by, []).append(node)
    return found


def judged_nodes(nodes: Sequence[Node]) -> list[EvaluationNode]:
    """The evaluations among some nodes whose answers a judge reads."""
    return [node for node in nodes if isinstance(node, EvaluationNode) and node.answers is not None]


def judge_name(judge: JudgeConfig, model: str) -> str:
    """What a judge is called in the price list; `model` is the one that it judges the answers of."""
    if judge.is_open:
        return model if api_model_name(model) is not None else "sgtr/base"
    return judge.model


def judging_cost(judge: str, batch: bool, facts: Facts, load: Workload) -> float:
    """Dollars of judging the answers of a task; NaN for a judge without a price."""
    judging = facts.judging
    assert judging is not None  # it has answers to judge
    questions = load.answers * judging.questions
    return cost_of(judge, questions * _JUDGE_TOKENS, questions * judging.reply_tokens, batch)


def training_of(node: TrainingNode) -> Training:
    """A run of ours, as far as its settings say."""
    examples, training = node.data.row_count(), node.training
    counted = examples if node.matched is None else _matched_rows(node)
    if counted is not None and node.interleave is not None:
        mixed = node.interleave
        if mixed.fraction is not None:
            counted = int(counted / (1 - mixed.fraction))
        elif mixed.every is not None:
            counted += counted // mixed.every
    steps = None if counted is None else -(-counted // training.batch_examples) * training.epochs
    apart = len(node.penalty_data)
    beside = len(training.penalties) > apart
    return Training(node, examples, _lengths(node.data).cut(training.max_length), steps, 1 + beside / 3 + apart * 4 / 3)


def _lengths(data: DataNode) -> Lengths:
    """How long examples are: as in the set of the registry, or in one that is alike; else all of the usual length."""
    known = shipped_lengths()
    names = [name for name in (*data.registry_sets(), data.long_as) if name in known]
    return known[str(names[0])] if names else Lengths.of_all(data.tokens_per_row, data.tokens_per_row / 3)


def _matched_rows(node: TrainingNode) -> int | None:
    """The rows that its dose comes to, as far as settings say."""
    assert node.matched is not None and node.dose is not None
    rows = node.matched.row_count()
    if rows is None:
        return None
    longer = node.matched.tokens_per_row / node.data.tokens_per_row if node.dose.by == "tokens" else 1.0
    return max(1, round(rows * node.dose.times * longer))


def _training_tokens(node: TrainingNode, store: Store) -> int:
    data = node.matched or node.data
    times = 1.0 if node.dose is None else node.dose.times
    path = store.path(data) / RECORDS
    if path.exists():
        return round(path.stat().st_size // 4 * times)
    rows = data.row_count()
    return round((rows if rows is not None else 5000) * data.tokens_per_row * times)


def confirm(config: ExperimentConfig, expected: Bill, assume_yes: bool) -> None:
    """Say what an API's model will cost, and ask where that is much. Raises InputError without a yes."""
    if config.api_model is None:
        return
    parts = f"finetuning ${expected.finetuning:,.2f}, sampling ${expected.sampling:,.2f}"
    total = expected.finetuning + expected.sampling
    limit = config.api.confirm_above
    print(
        f"{config.model}: about ${total:,.2f} ({parts}; prices of {price_list()['as_of']}); "
        f"judging about ${expected.judging:,.2f}",
        file=sys.stderr,
    )
    if assume_yes or total <= limit:
        return
    if math.isnan(total):
        raise InputError(f"{config.model} has no price in configs/prices.yaml; add it, or run with --yes")
    if sys.stdin.isatty() and input("Go on? [y/N] ").strip().lower() in ("y", "yes"):
        return
    raise InputError(f"about ${total:,.2f} is above api.confirm_above={limit:g}; nothing was sent. --yes goes on")
