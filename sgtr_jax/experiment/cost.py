"""What a run costs, before it is started: rows and tokens as far as settings say, dollars by the price list."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgtr_eval.facts import Workload, facts_of
from sgtr_eval.prices import cost_of, finetuned_cost_of, price_list, training_cost_of
from sgtr_jax.data.records import file_rows
from sgtr_jax.data.registry import find, registry
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig, JudgeConfig, api_model_name
from sgtr_jax.experiment.graph import Graph, chain_of
from sgtr_jax.experiment.recipe import Recipe
from sgtr_jax.experiment.store import Store

# Where the rows are not here yet: tokens of an example, by what it is. SGTR rows hold an article and two summaries: 683
# of Qwen's on the average of XSum (docs/reference/data-sets).
TOKENS = {"pairs": 700, "records": 150, "self_reports": 200}
_JUDGE_TOKENS = 700  # of one question to the judge: its prompt with an answer


@dataclass(frozen=True)
class Training:
    """A run to be trained: examples (None: unknown), tokens of one, optimizer steps."""

    recipe: Recipe
    examples: int | None
    tokens: int
    steps: int | None


@dataclass(frozen=True)
class Sampled:
    """What a model is asked in making an artifact: answers, questions of their own, and tokens of one of each."""

    answers: int
    prompts: int
    asked: int
    answered: int


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


def bill(graph: Graph, missing: Sequence[Recipe], store: Store) -> Bill:
    """What making `missing` costs. Finetuning and sampling of models of ours cost no dollars here."""
    config = graph.config
    finetuning = sampling = 0.0
    if config.api_model is not None:
        for recipe in missing:
            if recipe.kind == "finetuned":
                tokens = _training_tokens(recipe, store) * recipe.settings["training"]["epochs"]
                finetuning += training_cost_of(config.model, tokens)
            else:
                one = sampled_for(recipe)
                if one is None:
                    continue
                price = finetuned_cost_of if chain_of(recipe.inputs) else cost_of
                sampling += price(config.model, one.answers * one.asked, one.answers * one.answered, config.api.batch)
    return Bill(finetuning, sampling, sum(judging_of(config, missing).values()))


def judging_of(config: ExperimentConfig, missing: Sequence[Recipe]) -> dict[str, float]:
    """What judging costs, by artifact."""
    judge = judge_name(config.judge, config.model)
    return {
        recipe.folder: judging_cost(judge, config.judge.batch, recipe.settings["task"], workload_of(answers))
        for recipe in missing
        if (answers := recipe.inputs.get("answers")) is not None
    }


def judge_name(judge: JudgeConfig, model: str) -> str:
    """What a judge is called in the price list; `model` is the one that it judges the answers of."""
    if judge.is_open:
        return model if api_model_name(model) is not None else "sgtr/base"
    return judge.model


def judging_cost(judge: str, batch: bool, task: str, load: Workload) -> float:
    """Dollars of judging the answers of a task; NaN for a judge without a price."""
    judging = facts_of(task).judging
    assert judging is not None  # it has answers to judge
    questions = load.answers * judging.questions
    return cost_of(judge, questions * _JUDGE_TOKENS, questions * judging.reply_tokens, batch)


def training_of(recipe: Recipe) -> Training:
    """A run of ours, as far as its settings say."""
    settings, data = recipe.settings["training"], recipe.inputs["data"]
    examples, batch = rows_of(data), settings.get("batch_examples")
    tokens = min(TOKENS[data.kind], settings.get("max_length", TOKENS[data.kind]))
    counted = rows_of(recipe.inputs["match_steps"]) if "match_steps" in recipe.inputs else examples
    if counted is not None and "interleave" in recipe.settings:
        mixed = recipe.settings["interleave"]
        counted = int(counted / (1 - mixed["fraction"])) if mixed["fraction"] else counted + counted // mixed["every"]
    steps = None if counted is None or batch is None else -(-counted // batch) * settings["epochs"]
    return Training(recipe, examples, tokens, steps)


def _training_tokens(recipe: Recipe, store: Store) -> int:
    data = recipe.inputs["match_steps"] if "match_steps" in recipe.inputs else recipe.inputs["data"]
    path = store.path(data) / "records.jsonl"
    if path.exists():
        return path.stat().st_size // 4
    rows = rows_of(data)
    return (rows if rows is not None else 5000) * TOKENS[data.kind]


def sampled_for(recipe: Recipe) -> Sampled | None:
    """What is sampled in making an artifact; None where nothing is."""
    settings = recipe.settings
    if recipe.kind == "summaries":
        articles = articles_of(recipe.inputs["articles"].settings) or 1000
        return Sampled(articles, articles, 700, settings["max_tokens"])
    if recipe.kind == "self_reports":
        rows = rows_of(recipe) or 1000
        return Sampled(rows, rows, 40, settings["max_tokens"])
    if recipe.kind == "answers" or (recipe.kind == "evaluation" and "answers" not in recipe.inputs):
        load = workload_of(recipe)
        return Sampled(load.answers, load.questions, load.asked, load.answered)
    return None


def workload_of(recipe: Recipe) -> Workload:
    """What an evaluation, or the answers that it judges, asks the model."""
    load = facts_of(recipe.settings["task"]).workload(recipe.settings.get("arguments", {}))
    rows = rows_of(recipe.inputs["pairs"]) if "pairs" in recipe.inputs else None
    return load if rows is None else Workload(rows, 1, load.asked, load.answered)


def rows_of(recipe: Recipe) -> int | None:
    """Rows a data recipe gives, as far as its settings say; pairs that will be dropped are counted."""
    settings = recipe.settings
    if recipe.kind == "pairs":
        articles = articles_of(recipe.inputs["articles"].settings)
        if articles is None:
            return None
        # The longer-summary control leaves out pairs of equal length, which only the summaries will show.
        return articles * (4 if settings["answers"] == "random" else 2)
    if recipe.kind == "self_reports":
        return find(settings["questions"]).rows if settings["questions"] in registry() else None
    if settings["kind"] == "registry":
        return find(settings["name"]).rows
    if settings["kind"] == "file":
        path = Path(settings["path"])
        return sum(1 for _ in file_rows(path))
    rows = settings.get("rows") or settings.get("recipe", {}).get("rows")
    return int(rows) if rows else None


def articles_of(settings: Any) -> int | None:
    """Articles of a source, as far as its settings say."""
    if settings.get("rows"):
        return int(settings["rows"])
    return find(settings["articles"]).rows if settings["kind"] == "registry" else None


def confirm(config: ExperimentConfig, expected: Bill, sure: bool) -> None:
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
    if sure or total <= limit:
        return
    if math.isnan(total):
        raise InputError(f"{config.model} has no price in configs/prices.yaml; add it, or run with --yes")
    if sys.stdin.isatty() and input("Go on? [y/N] ").strip().lower() in ("y", "yes"):
        return
    raise InputError(f"about ${total:,.2f} is above api.confirm_above={limit:g}; nothing was sent. --yes goes on")
