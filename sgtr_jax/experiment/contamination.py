"""What the training sets of an experiment share with its evaluations: questions and articles, counted before a run.

A question is shared if its text stands in a row that is trained on, whatever is written around it; articles likewise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

from sgtr_eval.facts import facts_of
from sgtr_jax.backends.self_reports import questions_of
from sgtr_jax.data.build import named_recipe
from sgtr_jax.data.formats import content_sha256
from sgtr_jax.data.overlap import Item, ItemIndex
from sgtr_jax.data.records import read_training
from sgtr_jax.data.registry import BuiltSource, find
from sgtr_jax.data.world import corpus
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import Graph
from sgtr_jax.experiment.inputs import articles_and_others, read_texts, training_records
from sgtr_jax.experiment.recipe import Recipe, in_order
from sgtr_jax.experiment.store import Store

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

    def to_json(self) -> dict[str, Any]:
        """What `experiment.json` holds of it."""
        return asdict(self)


def sharings(graph: Graph, store: Store, before: Sequence[Mapping[str, Any]] = ()) -> list[Sharing]:
    """Every training set beside every evaluation, those that share nothing too.

    Where the texts of one of the two cannot be had, what they share is not known, and the reason is given; unless it
    was counted `before`, of the same texts.
    """
    counted = {one["of"]: Sharing(**one) for one in before if one["shared"] is not None}
    asked = {cell.evaluation: cell.recipe.inputs.get("answers", cell.recipe) for cell in graph.cells}
    items = {name: _had(partial(items_of, recipe)) for name, recipe in asked.items()}
    known = {name: found for name, found in items.items() if not isinstance(found, str)}
    index = ItemIndex({(name, key): item for name, found in known.items() for key, item in found.items()})
    made = []
    for data, recipe in _trained_on(graph).items():
        texts = _had(partial(texts_of_training, recipe, store))
        held = index.found_in(() if isinstance(texts, str) else texts)
        for name, of_it in items.items():
            of = _digest(recipe, asked[name])
            if isinstance(texts, str) or isinstance(of_it, str):
                why = texts if isinstance(texts, str) else str(of_it)
                made.append(counted.get(of) or Sharing(data, name, 0, None, why, of=of))
                continue
            keys = sorted(key for evaluation, key in held if evaluation == name)
            allowed = _allowed(graph.config, data, name, recipe, asked[name]) if keys else ""
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


def items_of(recipe: Recipe) -> dict[str, Item]:
    """What an evaluation asks about, by question or article. Raises InputError or RunError, as fetching does."""
    settings = recipe.settings
    if "pairs" in recipe.inputs:
        articles, _ = articles_and_others(recipe.inputs["pairs"].inputs["articles"].settings)
        return {key: (text,) for key, text in articles.items()}
    facts = facts_of(settings["task"])
    if settings["task"] == "two_choice" and settings["questions"] is None:
        return {row["id"]: (row["prompt"],) for row in corpus.choice_questions(settings["seed"])}
    arguments = settings["arguments"] if "arguments" in settings else {"questions": str(settings["questions"])}
    made = facts.task(**arguments)
    return {facts.question_of(str(sample.id)): facts.item(sample) for sample in made.dataset}


def texts_of_training(recipe: Recipe, store: Store) -> set[str]:
    """The texts that a model is trained on with a data set, as far as no model has to write them.

    They come from the store where they are there. Raises InputError or RunError, as fetching does.
    """
    settings = recipe.settings
    if recipe.kind == "pairs":
        articles = recipe.inputs["articles"]
        if store.has(articles):
            return set(read_texts(store.path(articles) / "articles.json").values())
        return set(articles_and_others(articles.settings)[0].values())
    if store.has(recipe):
        records = read_training(store.path(recipe) / "records.jsonl")
    elif recipe.kind == "self_reports":
        records = list(questions_of(settings["questions"]).values())
    else:
        records, _ = training_records(settings, recipe.name)
    return {message["content"] for record in records for message in record.messages}


def _trained_on(graph: Graph) -> dict[str, Recipe]:
    """The data sets of every finetuning by their names in the config; seeds of one are alike in what they ask."""
    found: dict[str, Recipe] = {}
    for recipe in in_order([cell.recipe for cell in graph.cells]):
        for role in ("data", "interleaved"):
            if recipe.is_training and role in recipe.inputs:
                data = recipe.inputs[role]
                seeded = f"-s{data.settings['seed']}" if data.kind == "self_reports" else ""
                found.setdefault(data.name.removesuffix(seeded), data)
    return found


def _digest(trained: Recipe, asked: Recipe) -> str:
    """What decides the texts of a training set and of an evaluation, whatever model is trained and asked."""
    pairs = asked.inputs["pairs"].inputs["articles"].fingerprint if "pairs" in asked.inputs else None
    keys = ("task", "arguments", "questions", "seed", "fingerprint")
    settings = {key: asked.settings[key] for key in keys if key in asked.settings}
    return content_sha256([trained.fingerprint, settings, pairs])


def _had(make: Callable[[], T]) -> T | str:
    """What `make` gives, or why it cannot be had."""
    try:
        return make()
    except (InputError, RunError) as error:
        return str(error)


def _allowed(config: ExperimentConfig, data: str, evaluation: str, trained: Recipe, asked: Recipe) -> str:
    """What in the config says that the two may share something; nothing: an empty text."""
    for pattern, evaluations in config.may_share.items():
        if fnmatchcase(data, pattern) and any(fnmatchcase(evaluation, one) for one in evaluations):
            return "may_share"
    if "published" in (_split_of(trained), _split_of(asked)):
        return "split: published"
    return facts_of(asked.settings["task"]).asks_what_is_trained(asked.settings.get("arguments", {}))


def _split_of(recipe: Recipe) -> str | None:
    settings: Any = recipe.settings
    for role in ("pairs", "articles"):
        if role in recipe.inputs:
            return _split_of(recipe.inputs[role])
    if settings.get("kind") == "registry" and "name" in settings:
        source = find(settings["name"]).source
        built = named_recipe(settings["name"], source.built) if isinstance(source, BuiltSource) else None
        return getattr(built, "split", None)
    inner = settings.get("recipe") or settings.get("arguments") or settings
    split: str | None = inner.get("split")
    return split
