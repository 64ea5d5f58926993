"""What an experiment's config names and no model has to make: articles, and records to train on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgtr_jax.config import build
from sgtr_jax.data.build import KINDS, build_set, records_of, texts_in, texts_of
from sgtr_jax.data.halves import half
from sgtr_jax.data.publish import Published
from sgtr_jax.data.records import Record, read_training
from sgtr_jax.data.world import corpus
from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json

Texts = dict[str, str]


def articles_and_others(settings: Mapping[str, Any]) -> tuple[Texts, Texts]:
    """Articles by id, and another writer's summaries of them. Raises InputError."""
    if settings["kind"] == "world":
        articles, other = corpus.articles(settings["rows"], settings["seed"])
        return articles, other
    if settings["kind"] == "registry":
        articles, other = texts_of(settings["articles"]), texts_of(settings["other_summaries"])
    else:
        articles, other = texts_in(Path(settings["articles"])), texts_in(Path(settings["other_summaries"]))
    chosen = half(articles, settings.get("split") or "published")
    return dict(list(chosen.items())[: settings.get("rows")]), other


def training_records(settings: Mapping[str, Any], name: str) -> tuple[list[Record], dict[str, Any] | None]:
    """The records of a data set, and of one that is built what became of its inputs. Raises InputError."""
    if settings["kind"] == "file":
        return read_training(Path(settings["path"]), settings["format"]), None
    if settings["kind"] == "published":
        return list(Published(settings["address"])), None
    if settings["kind"] == "registry":
        return records_of(settings["name"]), None
    if settings["kind"] == "built":
        return build_set(build(KINDS[settings["recipe"]["kind"]], settings["recipe"], name))
    return corpus.preferences(settings["rows"], settings["seed"], settings["popular"]), None


def read_texts(path: Path) -> Texts:
    """A JSON object `{id: text}` of the store. Raises InputError for anything else."""
    data = read_json(path)
    if not all(isinstance(value, str) for value in data.values()):
        raise InputError(f"{path}: expected a JSON object of id: text")
    return data
