"""How each kind of artifact is made from its recipe."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from sgtr_jax.backends.jax import finetune_all
from sgtr_jax.backends.jobs import Finetune, MixedIn
from sgtr_jax.backends.openai import Jobs, Provider
from sgtr_jax.backends.self_reports import questions_of, told
from sgtr_jax.config import build
from sgtr_jax.data.batches import steps_of
from sgtr_jax.data.build import pair_prompt, prompts_row
from sgtr_jax.data.mix import with_system
from sgtr_jax.data.pairs import find_pairs, match_length, pair_records, report_of
from sgtr_jax.data.records import Record, read_training, to_jsonl
from sgtr_jax.data.shortcuts import shortcut_report
from sgtr_jax.data.summaries import published_summary_prompt, summary_prompt
from sgtr_jax.data.world import corpus
from sgtr_jax.errors import RunError
from sgtr_jax.experiment.api import finetune_by_api, finetuned_name, refusal, write_refusal
from sgtr_jax.experiment.config import ExperimentConfig, api_model_name
from sgtr_jax.experiment.graph import chain_of
from sgtr_jax.experiment.inputs import articles_and_others, read_texts, training_records
from sgtr_jax.experiment.judge_check import spending_of
from sgtr_jax.experiment.recipe import Recipe
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.subjects import Api, Local, Subject
from sgtr_jax.files import write_json, write_jsonl
from sgtr_jax.mesh import MeshConfig, devices_for
from sgtr_jax.model import Model, load_model
from sgtr_jax.processes import is_first_process
from sgtr_jax.sample.config import DrawConfig, SampleConfig
from sgtr_jax.train.config import WITHOUT_EFFECT, TrainConfig


class Maker:
    """Makes artifacts; holds the base model, which is loaded once and shared by everything."""

    def __init__(self, store: Store, config: ExperimentConfig) -> None:
        finetuning = config.finetuning
        self._store, self._judge, self._api = store, config.judge, config.api
        self._jobs: Jobs | None = None
        self._spending = spending_of(config, store.root.parent)
        self._mesh = config.sampling_mesh
        # Where and how fast, which recipes do not say.
        self._resources = {key: getattr(finetuning, key) for key in WITHOUT_EFFECT}
        self._models: dict[tuple[str, str], Model] = {}

    def make(self, recipe: Recipe) -> None:
        """Make one artifact, not an adapter, whose inputs are complete."""
        makers: dict[str, Callable[[Recipe, Path], None]] = {
            "articles": self._articles,
            "summaries": self._summaries,
            "pairs": self._pairs,
            "records": self._records,
            "self_reports": self._self_reports,
            "answers": self._answers,
            "evaluation": self._evaluation,
        }
        refused = refusal(recipe, self._store)
        with self._store.make(recipe) as folder:
            if refused is None:
                makers[recipe.kind](recipe, folder)
            else:
                write_refusal(recipe, folder, refused)

    def _base(self, name: str, dtype: str) -> Model:
        if (name, dtype) not in self._models:
            self._models[name, dtype] = load_model(name, dtype, self._mesh)
        return self._models[name, dtype]

    def _chain(self, recipe: Recipe) -> tuple[Path, ...]:
        return tuple(self._store.path(link) / "adapter" for link in chain_of(recipe.inputs))

    def _articles(self, recipe: Recipe, folder: Path) -> None:
        articles, other = articles_and_others(recipe.settings)
        write_json(folder / "articles.json", articles)
        write_json(folder / "other.json", other)

    def _summaries(self, recipe: Recipe, folder: Path) -> None:
        settings = recipe.settings
        articles = read_texts(self._store.path(recipe.inputs["articles"]) / "articles.json")
        style = settings["style"]
        if style == "own":
            prompts = [Record(key, summary_prompt(text)) for key, text in articles.items()]
        else:
            texts = prompts_row()
            prompts = [Record(key, published_summary_prompt(text, style, texts)) for key, text in articles.items()]
        rows = self._subject(recipe).sample(prompts, _draws(settings), f"summaries {recipe.name}")
        write_json(folder / "summaries.json", {row["id"]: row["text"] for row in rows})

    def _pairs(self, recipe: Recipe, folder: Path) -> None:
        source = self._store.path(recipe.inputs["articles"])
        own = read_texts(self._store.path(recipe.inputs["own"]) / "summaries.json")
        articles, settings = read_texts(source / "articles.json"), recipe.settings
        verbatim = settings["stimuli"] == "published"
        other = {"other": read_texts(source / "other.json")}
        found, dropped = find_pairs(articles, own, other, verbatim, settings["unusable"])
        pairs = match_length(found) if settings["match"] == "length" else found
        records = pair_records(pairs, settings["answers"], pair_prompt(settings["answers"], settings["stimuli"]))
        if "system" in settings:
            records = with_system(records, None if settings["system"] == "none" else settings["system"])
        report = report_of(len(articles), pairs, dropped)
        if not records:
            raise RunError(f"{recipe.name}: no usable pair is left: {report.dropped}")
        write_jsonl(folder / "records.jsonl", to_jsonl(records))
        shortcuts = {"not_matched": len(found) - len(pairs), "shortcuts": shortcut_report(pairs)}
        write_json(folder / "report.json", {**asdict(report), **shortcuts})

    def _records(self, recipe: Recipe, folder: Path) -> None:
        records, report = training_records(recipe.settings, recipe.name)
        if report is not None:
            write_json(folder / "report.json", report)
        write_jsonl(folder / "records.jsonl", to_jsonl(records))

    def _self_reports(self, recipe: Recipe, folder: Path) -> None:
        """The questions of a set, answered by a chain; answers that are empty or cut off are dropped and counted."""
        settings = recipe.settings
        asked = questions_of(settings["questions"])
        rows = self._subject(recipe).sample(list(asked.values()), _draws(settings), f"self-reports {recipe.name}")
        records, dropped = told(asked, rows)
        if not records:
            raise RunError(f"{recipe.name}: not one of {len(rows)} answers came to an end; raise max_tokens")
        write_jsonl(folder / "records.jsonl", to_jsonl(records))
        write_json(folder / "report.json", {"questions": len(rows), "dropped": dropped})

    def finetune(self, recipes: Sequence[Recipe]) -> dict[Recipe, str]:
        """Finetune together. Each is in the store as soon as its own run has ended.

        What an interrupted run saved stays in the store's scratch folders, and is gone on with. Jobs behind an API may
        still be under way when this returns: it waits for one of them. Returns why for those that failed.
        """
        if recipes[0].kind == "finetuned":
            if self._jobs is None:
                self._jobs = Jobs(Provider(self._api.base_url), self._api.poll_seconds)
            return finetune_by_api(recipes, self._store, self._jobs)
        jobs = [self._job(recipe) for recipe in recipes]
        config = jobs[0].config
        base = None
        if config.base_dtype is None and self._is_on_one_device(config.mesh):
            base = self._base(jobs[0].model, config.dtype)
        else:  # laid out otherwise for training, and there is not room for both
            self._models.clear()
            gc.collect()  # engines and models name each other
        finetune_all(jobs, base)
        return {}

    def _is_on_one_device(self, training: MeshConfig | Literal["auto"]) -> bool:
        asked = (MeshConfig() if training == "auto" else training, self._mesh or MeshConfig())
        return all(len(devices_for(mesh)) == 1 for mesh in asked)

    def _job(self, recipe: Recipe) -> Finetune:
        settings = recipe.settings
        config = build(TrainConfig, settings["training"], recipe.name).model_copy(update=self._resources)
        if "match_steps" in recipe.inputs:
            rows = len(self._stored_records(recipe.inputs["match_steps"]))
            steps = steps_of(rows, config.batch_examples) * config.epochs
            config = config.model_copy(update={"max_steps": steps})
        mixed = None
        if "interleaved" in recipe.inputs:
            mixed = MixedIn(self._stored_records(recipe.inputs["interleaved"]), **settings["interleave"])
        scratch = self._store.scratch(recipe)

        def store() -> None:
            with self._store.make(recipe) as folder:
                if is_first_process():
                    for part in ("adapter", "metrics.jsonl", "report.json", "profile"):
                        if part != "profile" or (scratch / part).exists():
                            (scratch / part).rename(folder / part)
            if is_first_process():
                shutil.rmtree(scratch, ignore_errors=True)

        records = self._stored_records(recipe.inputs["data"])
        return Finetune(settings["model"], self._chain(recipe), records, config, scratch, recipe.name, mixed, store)

    def _stored_records(self, recipe: Recipe) -> list[Record]:
        return read_training(self._store.path(recipe) / "records.jsonl")

    def _subject(self, recipe: Recipe) -> Subject:
        """The model that a recipe's settings and links name."""
        settings, chain = recipe.settings, chain_of(recipe.inputs)
        if api_model_name(settings["model"]) is not None:
            name = f"openai/{finetuned_name(self._store.path(chain[-1]))}" if chain else settings["model"]
            return Api(name, settings["system"], self._api.base_url, self._api.batch)
        base = self._base(settings["model"], settings["dtype"])
        # The last link's recipe names those before it.
        chain_id = chain[-1].fingerprint[:16] if chain else None
        model = base.with_adapters(self._chain(recipe), settings["merge"] is not None, chain_id)
        return Local(model, _sampling(settings))

    def _the_judge(self, settings: Mapping[str, Any]) -> Subject:
        if "model_fingerprint" not in settings:
            return Api(settings["model"], base_url=settings["base_url"], batch=self._judge.batch)
        return self._subject(Recipe("answers", "judge", settings))

    def _answers(self, recipe: Recipe, folder: Path) -> None:
        """A judged task's answers: an Inspect log without scores."""
        from sgtr_jax.experiment.evaluate import sample_answers

        settings = recipe.settings
        sample_answers(settings["task"], dict(settings["arguments"]), self._subject(recipe), folder, recipe.name)

    def _judged(self, recipe: Recipe, folder: Path) -> list[dict[str, Any]]:
        from sgtr_jax.experiment.evaluate import judge_answers

        settings, answers = recipe.settings, recipe.inputs["answers"]
        return judge_answers(
            settings["task"], dict(answers.settings["arguments"]), dict(settings["judging"]), self._spending,
            self._the_judge(settings["judge"]), self._store.path(answers) / "log", folder, recipe.name, recipe.folder,
        )  # fmt: skip

    def _evaluation(self, recipe: Recipe, folder: Path) -> None:
        # Inspect is slow to import; runs with nothing left to evaluate do not pay for it.
        from sgtr_jax.experiment.evaluate import evaluate

        settings = recipe.settings
        if "answers" in recipe.inputs:
            write_json(folder / "metrics.json", self._judged(recipe, folder))
            return
        if "arguments" in settings:
            arguments = dict(settings["arguments"])
        elif settings["task"] == "self_recognition":
            arguments = {"pairs": str(self._store.path(recipe.inputs["pairs"]) / "records.jsonl")}
        else:
            path = settings["questions"]
            if path is None:
                path = folder / "questions.jsonl"
                write_jsonl(path, corpus.choice_questions(settings["seed"]))
            arguments = {"questions": str(path)}
        rows = evaluate(settings["task"], arguments, self._subject(recipe), folder, recipe.name)
        write_json(folder / "metrics.json", rows)


def _draws(settings: Mapping[str, Any]) -> DrawConfig:
    return DrawConfig(**{key: settings[key] for key in ("max_tokens", "temperature", "seed")})


def _sampling(settings: Any) -> SampleConfig:
    return build(SampleConfig, {key: settings[key] for key in SampleConfig.model_fields}, "recipe")
