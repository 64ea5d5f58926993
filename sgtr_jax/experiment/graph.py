"""From an experiment's config to its recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sgtr_eval.facts import facts_of
from sgtr_jax.data.build import BUILD_VERSION, check_files, check_texts, inputs_of, set_key, texts_in
from sgtr_jax.data.publish import Published
from sgtr_jax.data.questions import read_choices
from sgtr_jax.data.records import check_head
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import (
    Articles,
    BuiltData,
    Evaluation,
    ExperimentConfig,
    FileArticles,
    FileData,
    IdentityEval,
    PublishedData,
    RegistryArticles,
    RegistryData,
    SelfRecognitionData,
    SelfRecognitionEval,
    SelfReportsData,
    TaskEval,
)
from sgtr_jax.experiment.recipe import Recipe
from sgtr_jax.experiment.tasks import task_arguments
from sgtr_jax.fingerprint import file_fingerprint, model_fingerprint
from sgtr_jax.model import resolve_folder
from sgtr_jax.train.config import TrainConfig


@dataclass(frozen=True)
class Cell:
    """One evaluation of one model: a condition at a seed."""

    condition: str
    seed: int
    evaluation: str
    recipe: Recipe


@dataclass(frozen=True)
class Graph:
    """The measurements wanted, each with the recipe that makes it."""

    config: ExperimentConfig
    cells: tuple[Cell, ...]


class _Builder:
    def __init__(self, config: ExperimentConfig, fingerprint: str | None) -> None:
        self.config = config
        self._records: dict[tuple[str, int], Recipe] = {}
        self._chains: dict[tuple[str, int], tuple[Recipe, ...]] = {}
        self._by_api = config.api_model is not None
        if self._by_api:
            fingerprint = f"API at {config.api.base_url or 'its usual address'}"
        elif fingerprint is None:
            fingerprint = model_fingerprint(resolve_folder(config.model))
        self._base = {"model": config.model, "model_fingerprint": fingerprint}
        self._judge = config.judge.model_dump(mode="json", include={"model", "base_url"})
        if config.judge.is_open:
            self._judge.update(self._asked(None))

    def _asked(self, system: str | None) -> dict[str, Any]:
        """The model and how it is talked to, under the system prompt of a condition."""
        finetuning = self.config.finetuning
        system = finetuning.system if system is None else system
        if self._by_api:
            # An API puts in no system message of its own: "default" and "none" are the same there.
            return {**self._base, "system": "none" if system == "default" else system}
        return {
            **self._base,
            "system": system,
            "thinking_budget": finetuning.thinking_budget,
            "merge": finetuning.merge,
            "dtype": finetuning.dtype,
        }

    def _trained(self, training: TrainConfig) -> dict[str, Any]:
        """The settings that decide what a finetuning gives."""
        if not self._by_api:
            return training.identity()
        api = self.config.api.model_dump(mode="json", include={"batch_size", "learning_rate_multiplier"})
        system = "none" if training.system == "default" else training.system
        own = training.model_dump(mode="json", include={"epochs", "seed", "inoculation"})
        return {**own, **api, "system": system}

    def articles(self, source: Articles) -> Recipe:
        settings = source.model_dump(mode="json")
        if settings.get("split") is None:  # the fingerprint of all articles is what it was before there were halves
            settings.pop("split", None)
        if isinstance(source, FileArticles):
            for path in (source.articles, source.other_summaries):
                if not path.is_file():
                    raise InputError(f"{path}: no such file (articles of the experiment)")
                texts_in(path)
            settings["fingerprints"] = [
                file_fingerprint(source.articles),
                file_fingerprint(source.other_summaries),
            ]
            return Recipe("articles", source.articles.stem, settings)
        if isinstance(source, RegistryArticles):
            settings["fingerprints"] = [set_key(name) for name in (source.articles, source.other_summaries)]
            return Recipe("articles", source.articles, settings)
        return Recipe("articles", f"world{source.seed}", settings)

    def pairs(self, name: str, spec: SelfRecognitionData | SelfRecognitionEval) -> Recipe:
        articles = self.articles(spec.articles)
        sampling = {
            **self._asked(None),
            **spec.model_dump(mode="json", include={"style", "temperature", "max_tokens", "seed"}),
        }
        own = Recipe("summaries", name, sampling, {"articles": articles})
        settings: dict[str, Any] = {
            "answers": spec.answers if isinstance(spec, SelfRecognitionData) else "own",
            "stimuli": spec.stimuli or self.config.stimuli or "builtin",
            "match": spec.match,
            "unusable": spec.unusable,
        }
        if isinstance(spec, SelfRecognitionData) and spec.system is not None:
            settings["system"] = spec.system
        return Recipe("pairs", name, settings, {"articles": articles, "own": own})

    def records(self, name: str, seed: int) -> Recipe:
        if (name, seed) not in self._records:
            self._records[name, seed] = self._new_records(name, seed)
        return self._records[name, seed]

    def _new_records(self, name: str, seed: int) -> Recipe:
        spec = self.config.data[name]
        if isinstance(spec, SelfRecognitionData):
            return self.pairs(name, spec)
        if isinstance(spec, SelfReportsData):
            return self.self_reports(name, spec, seed)
        settings = spec.model_dump(mode="json")
        if isinstance(spec, RegistryData):
            settings["fingerprint"] = set_key(spec.name)
        if isinstance(spec, BuiltData):
            check_files(spec.recipe)
            settings["fingerprints"] = [set_key(used) for used in inputs_of(spec.recipe)]
            settings["version"] = BUILD_VERSION
        if isinstance(spec, FileData):
            if not spec.path.is_file():
                raise InputError(f"{spec.path}: no such file (data {name!r} of the experiment)")
            check_head(spec.path, spec.format)
            settings["fingerprint"] = file_fingerprint(spec.path)
        if isinstance(spec, PublishedData):
            published = Published(spec.address)
            settings |= {"rows": len(published), "fingerprint": published.fingerprint}
        return Recipe("records", name, settings)

    def self_reports(self, name: str, spec: SelfReportsData, seed: int) -> Recipe:
        check_files(spec)
        chain = self.chain(spec.condition, seed) if spec.condition is not None else ()
        system = self.config.conditions[spec.condition].system if spec.condition is not None else None
        settings = {
            **self._asked(system),
            **spec.model_dump(mode="json", exclude={"kind", "condition"}),
            "fingerprint": set_key(spec.questions),
            "seed": seed,
        }
        return Recipe("self_reports", f"{name}-s{seed}", settings, links(chain))

    def chain(self, condition: str, seed: int) -> tuple[Recipe, ...]:
        """Adapters of a condition, one per stage. Equal stages of two conditions are one recipe."""
        if (condition, seed) not in self._chains:
            self._chains[condition, seed] = self._new_chain(condition, seed)
        return self._chains[condition, seed]

    def _new_chain(self, condition: str, seed: int) -> tuple[Recipe, ...]:
        chain: tuple[Recipe, ...] = ()
        names: list[str] = []
        whole = self.config.conditions[condition]
        for stage in whole.stages:
            names.append(stage.label)
            changes: dict[str, Any] = {"seed": seed}
            if not chain:
                changes["merge"] = None  # nothing below to merge
            if stage.epochs is not None:
                changes["epochs"] = stage.epochs
            if stage.inoculation is not None:
                changes["inoculation"] = stage.inoculation
            system = stage.system if stage.system is not None else whole.system
            if system is not None:
                changes["system"] = system
            training = self.config.finetuning.model_copy(update=changes)
            settings: dict[str, Any] = {**self._base, "training": self._trained(training)}
            inputs = {"data": self.records(stage.data, seed), **links(chain)}
            if stage.interleave is not None:
                settings["interleave"] = stage.interleave.model_dump(mode="json", exclude={"data"})
                inputs["interleaved"] = self.records(stage.interleave.data, seed)
            if stage.match_steps is not None:
                inputs["match_steps"] = self.records(stage.match_steps, seed)
            kind = "finetuned" if self._by_api else "adapter"
            chain = (*chain, Recipe(kind, f"{'+'.join(names)}-s{seed}", settings, inputs))
        return chain

    def task_cell(
        self, condition: str, seed: int, name: str, spec: TaskEval | IdentityEval, settings: dict[str, Any],
        inputs: dict[str, Recipe],
    ) -> Cell:  # fmt: skip
        """Tasks of `sgtr_eval` by name; a judged one's answers are an artifact of their own, judged again at will."""
        label = f"{name}-{condition}-s{seed}"
        given = dict(spec.settings) if isinstance(spec, TaskEval) else spec.model_dump(mode="json", exclude={"kind"})
        arguments = task_arguments(spec.kind, given, seed, f"evaluation {name!r}", self.config.stimuli)
        if isinstance(arguments.get("articles"), str):
            check_texts(arguments["articles"])
        facts = facts_of(spec.kind)
        if facts.judging is None or not facts.judged(arguments):
            settings = {**settings, "arguments": arguments}
            return Cell(condition, seed, name, Recipe("evaluation", label, settings, inputs))
        if self.config.judge.mode is not None and "judge_mode" in facts.judging.arguments:
            arguments.setdefault("judge_mode", self.config.judge.mode)
        # What only the judging reads must not make the answers others.
        judging = {key: arguments.pop(key) for key in facts.judging.arguments if key in arguments}
        answers = Recipe("answers", label, {**settings, "arguments": arguments}, inputs)
        return Cell(
            condition,
            seed,
            name,
            Recipe(
                "evaluation", label, {"task": spec.kind, "judge": self._judge, "judging": judging}, {"answers": answers}
            ),
        )

    def cell(self, condition: str, seed: int, name: str, spec: Evaluation) -> Cell:
        chain = self.chain(condition, seed)
        inputs: dict[str, Recipe] = links(chain)
        settings: dict[str, Any] = {
            **self._asked(self.config.conditions[condition].system),
            "task": spec.kind,
        }
        if isinstance(spec, SelfRecognitionEval):
            inputs["pairs"] = self.pairs(f"eval-{name}", spec)
        elif isinstance(spec, TaskEval | IdentityEval):
            return self.task_cell(condition, seed, name, spec, settings, inputs)
        else:
            settings.update(spec.model_dump(mode="json"))
            if spec.questions is not None:
                if not spec.questions.is_file():
                    raise InputError(f"{spec.questions}: no such file (evaluation {name!r})")
                read_choices(spec.questions)
                settings["fingerprint"] = file_fingerprint(spec.questions)
        label = f"{name}-{condition}-s{seed}"
        return Cell(condition, seed, name, Recipe("evaluation", label, settings, inputs))


def links(chain: tuple[Recipe, ...]) -> dict[str, Recipe]:
    """A chain as recipe inputs: `adapter0`, `adapter1`, ..."""
    return {f"adapter{i}": recipe for i, recipe in enumerate(chain)}


def chain_of(inputs: Mapping[str, Recipe]) -> list[Recipe]:
    """The inverse of `links`."""
    return [inputs[f"adapter{i}"] for i in range(sum(role.startswith("adapter") for role in inputs))]


def build_graph(config: ExperimentConfig, fingerprint: str | None = None) -> Graph:
    """Expand a config. Conditions without stages do not depend on a seed and are measured once.

    `fingerprint` stands for the model where its weights are not here, to plan with: nothing is found done then.
    Raises InputError for files or models that do not exist.
    """
    builder = _Builder(config, fingerprint)
    cells = [
        builder.cell(name_of_condition, seed, name, spec)
        for name_of_condition, condition in config.wanted_conditions.items()
        for seed in (config.seeds if condition.stages else config.seeds[:1])
        for name, spec in config.wanted_evaluations.items()
    ]
    return Graph(config, tuple(cells))
