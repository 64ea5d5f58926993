"""How each kind of artifact is made from its recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sgtr_jax.backends.jax import Finetune, finetune
from sgtr_jax.backends.sampling import sample_prompts
from sgtr_jax.config import build
from sgtr_jax.data.pairs import build_pairs, summary_prompt
from sgtr_jax.data.records import Record, read_training, to_jsonl
from sgtr_jax.data.world import corpus
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.graph import chain_of
from sgtr_jax.experiment.recipe import Recipe
from sgtr_jax.experiment.store import Store
from sgtr_jax.files import write_json, write_jsonl
from sgtr_jax.model import Model, load_model
from sgtr_jax.sample.config import SampleConfig
from sgtr_jax.train.config import TrainConfig


class Maker:
    """Makes artifacts; holds the base model, which is loaded once and shared by everything."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._models: dict[tuple[str, str], Model] = {}

    def make(self, recipe: Recipe) -> None:
        """Make one artifact whose inputs are complete."""
        makers: dict[str, Callable[[Recipe, Path], None]] = {
            "articles": self._articles,
            "summaries": self._summaries,
            "pairs": self._pairs,
            "records": self._records,
            "adapter": self._adapter,
            "evaluation": self._evaluation,
        }
        with self._store.make(recipe) as folder:
            makers[recipe.kind](recipe, folder)

    def _base(self, name: str, dtype: str) -> Model:
        if (name, dtype) not in self._models:
            self._models[name, dtype] = load_model(name, dtype)
        return self._models[name, dtype]

    def _chain(self, recipe: Recipe) -> tuple[Path, ...]:
        return tuple(self._store.path(link) / "adapter" for link in chain_of(recipe.inputs))

    def _articles(self, recipe: Recipe, folder: Path) -> None:
        settings = recipe.settings
        if settings["kind"] == "world":
            articles, other = corpus.articles(settings["rows"], settings["seed"])
        else:
            articles = _read_texts(Path(settings["articles"]))
            other = _read_texts(Path(settings["other_summaries"]))
        write_json(folder / "articles.json", articles)
        write_json(folder / "other.json", other)

    def _summaries(self, recipe: Recipe, folder: Path) -> None:
        settings = recipe.settings
        model = self._base(settings["model"], settings["dtype"])
        articles = _read_texts(self._store.path(recipe.inputs["articles"]) / "articles.json")
        prompts = [Record(key, summary_prompt(text)) for key, text in articles.items()]
        rows = sample_prompts(
            model,
            prompts,
            1,
            settings["max_tokens"],
            settings["temperature"],
            settings["seed"],
            _sampling(settings).chat(model.tokenizer),
            label=f"summaries {recipe.name}",
        )
        write_json(folder / "summaries.json", {row["id"]: row["text"] for row in rows})

    def _pairs(self, recipe: Recipe, folder: Path) -> None:
        source = self._store.path(recipe.inputs["articles"])
        own = _read_texts(self._store.path(recipe.inputs["own"]) / "summaries.json")
        records, report = build_pairs(_read_texts(source / "articles.json"), own, _read_texts(source / "other.json"))
        if not records:
            raise RunError(f"{recipe.name}: no usable pair is left: {report.dropped}")
        write_jsonl(folder / "records.jsonl", to_jsonl(records))
        write_json(folder / "report.json", asdict(report))

    def _records(self, recipe: Recipe, folder: Path) -> None:
        settings = recipe.settings
        if settings["kind"] == "file":
            records = read_training(Path(settings["path"]))
        else:
            records = corpus.preferences(settings["rows"], settings["seed"], settings["popular"])
        write_jsonl(folder / "records.jsonl", to_jsonl(records))

    def _adapter(self, recipe: Recipe, folder: Path) -> None:
        config = build(TrainConfig, recipe.settings["training"], recipe.name)
        records = read_training(self._store.path(recipe.inputs["data"]) / "records.jsonl")
        base = self._base(recipe.settings["model"], config.dtype) if config.mesh.fsdp is None else None
        job = Finetune(recipe.settings["model"], self._chain(recipe), records, config, folder, recipe.name)
        finetune(job, base)

    def _evaluation(self, recipe: Recipe, folder: Path) -> None:
        # Inspect is slow to import; runs with nothing left to evaluate do not pay for it.
        from sgtr_jax.experiment.evaluate import evaluate

        settings = recipe.settings
        model = self._base(settings["model"], settings["dtype"]).with_adapters(self._chain(recipe))
        if settings["task"] == "self_recognition":
            arguments = {"pairs": str(self._store.path(recipe.inputs["pairs"]) / "records.jsonl")}
        elif settings["task"] == "two_choice":
            path = settings["questions"]
            if path is None:
                path = folder / "questions.jsonl"
                write_jsonl(path, corpus.choice_questions(settings["seed"]))
            arguments = {"questions": str(path)}
        else:
            keys = ("maker", "question", "samples", "temperature", "max_tokens", "seed")
            arguments = {key: settings[key] for key in keys}
        rows = evaluate(settings["task"], arguments, model, _sampling(settings), folder, recipe.name)
        write_json(folder / "metrics.json", rows)


def _sampling(settings: Any) -> SampleConfig:
    return build(SampleConfig, {key: settings[key] for key in SampleConfig.model_fields}, "recipe")


def _read_texts(path: Path) -> dict[str, str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise InputError(f"{path}: expected a JSON object of id: text")
    return data
