"""`sgtr run CONFIG --smoke`: the whole way of a study in minutes, on a random model, to see whether anything breaks.

Every data set is trained on, every way of training is taken and every evaluation is run at least once, each with a few
rows and answers. The config that does so is written down, so that it can be read, changed and run again.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgtr_jax.config import build_config, load_config, names_file
from sgtr_jax.data.records import Record, file_rows
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.conditions import Condition
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.data_node import DataConfig
from sgtr_jax.experiment.evaluation_node import EvaluationConfig
from sgtr_jax.experiment.made_from import Part
from sgtr_jax.experiment.nodes.projection import ProjectionEval
from sgtr_jax.experiment.nodes.records import RecordsConfig
from sgtr_jax.experiment.nodes.summaries import SummariesConfig
from sgtr_jax.experiment.nodes.task_evaluation import TaskConfig
from sgtr_jax.experiment.smoke_model import make_smoke_model
from sgtr_jax.experiment.tasks import built_task, parameters_of, task_arguments
from sgtr_jax.files import write_json, write_jsonl

_ROWS, _ARTICLES, _TOKENS = 16, 12, 8
_MIXED = 0.25  # of the rows, at least
# Of tasks: how little is asked, by the names that their arguments have.
_LITTLE = {"samples": 1, "limit": 4, "limit_per_subject": 1, "max_tokens": _TOKENS}


@dataclass(frozen=True)
class Smoke:
    """The small experiment's config, and what of the whole one it could not take in, with the reason."""

    config: Path
    left_out: Mapping[str, str]


def write_smoke(path: Path, overrides: Sequence[str]) -> Smoke:
    """Write the small experiment that stands for the one of a config.

    Data sets and evaluations whose texts cannot be had here are left out, with the conditions that need them. Raises
    InputError.
    """
    config = load_config(ExperimentConfig, path, overrides)
    if config.api_model is not None:
        raise InputError(f"--smoke: {config.model} is behind an API; it is for models of ours")
    folder = Path("runs") / f"{config.name}-smoke"
    files = folder / "smoke"
    texts, left_out = _texts(config)
    conditions = {
        name: one for name, one in config.wanted_conditions.items() if not _needs(name, config) & set(left_out)
    }
    for name in [name for name, one in conditions.items() if one.start is not None]:
        del conditions[name]
        left_out[name] = "starts from a released model, which a random one does not stand for"
    if not conditions:
        raise InputError("--smoke: no condition can be made: " + "; ".join(left_out.values()))
    chosen, asked = _covering(conditions), []
    for name, spec in config.wanted_evaluations.items():
        try:
            _check_asked(name, spec, config, left_out)
            asked.append(name)
        except (InputError, RunError) as error:
            left_out[name] = str(error)
    if not asked:
        raise InputError("--smoke: no evaluation can be run: " + "; ".join(left_out.values()))
    small = build_config(ExperimentConfig, {**_small(config, chosen, folder, files), "measure": asked}, "--smoke")
    said = "nano itself" if config.model == "nano" else make_smoke_model(config.model, texts, files / "model")
    write_json(files / "smoke.json", small.model_dump(mode="json"))
    print(
        f"smoke: {len(chosen)} of {len(config.wanted_conditions)} conditions, in which every data set and every way of "
        f"training is; {len(asked)} of {len(config.wanted_evaluations)} evaluations; seed {config.seeds[0]}, few rows, "
        f"{said}, judged by a rule. Its numbers mean nothing. {files / 'smoke.json'}",
        file=sys.stderr,
    )
    for name, why in left_out.items():
        print(f"smoke: left out, with all that needs it: {name}: {why}", file=sys.stderr)
    return Smoke(files / "smoke.json", left_out)


def _check_asked(name: str, spec: EvaluationConfig, config: ExperimentConfig, left_out: Collection[str]) -> None:
    """Raises InputError or RunError where an evaluation's texts cannot be had, or what it reads was left out."""
    if missing := [f"data {name!r}" for name in sorted(_read_by(spec, config)) if name in left_out]:
        raise InputError(f"reads {', '.join(missing)}, which cannot be had")
    if isinstance(spec, ProjectionEval) and names_file(spec.direction):
        raise InputError("its direction is of a file, and so of another model than the random one")
    if isinstance(spec, TaskConfig):
        where = f"evaluation {name!r}"
        built_task(spec.facts, task_arguments(spec.facts, spec.arguments(), 0, where, config.stimuli))
    elif isinstance(spec, SummariesConfig):
        spec.articles.read()


def _needs(name: str, config: ExperimentConfig) -> set[str]:
    """Every data set that a condition is made from, those of conditions and directions that it needs too."""
    return {part.name for part in config.parts.all_of(Part("condition", name)) if part.what == "data"}


def _read_by(spec: EvaluationConfig, config: ExperimentConfig) -> set[str]:
    """Every data set that an evaluation reads, those of the directions that it is about too."""
    return {one.name for part in spec.parts for one in (part, *config.parts.all_of(part)) if one.what == "data"}


def _covering(conditions: Mapping[str, Condition]) -> list[str]:
    """Few conditions that have among them all that any has: the base, data sets in each place, ways of training."""
    features = {name: _features(one) for name, one in conditions.items()}
    missing, chosen = set().union(*features.values()), []
    while missing:
        best = max(features, key=lambda name: len(features[name] & missing))
        missing -= features[best]
        chosen.append(best)
    return [name for name in conditions if name in chosen]


def _features(condition: Condition) -> set[tuple[str, str]]:
    found = {("stages", str(len(condition.stages))), ("system", str(condition.system))}
    for stage in condition.stages:
        found.add(("data", stage.data))
        if stage.interleave is not None:
            found.add(("mixed in", stage.interleave.data))
        if stage.match is not None:
            found.add(("matched", stage.match.data))
        found |= {("inoculated", str(stage.inoculation is not None)), ("stage's system", str(stage.system))}
        found |= {("defence", name) for name in stage.defences}
    return found


def _small(config: ExperimentConfig, chosen: Sequence[str], folder: Path, files: Path) -> dict[str, Any]:
    whole: dict[str, Any] = config.model_dump(mode="json")
    training = {"epochs": 1, "dtype": "float32", "batch_examples": 8, "mesh": "auto"}
    return {
        **whole,
        "name": f"{config.name}-smoke",
        "model": "nano" if config.model == "nano" else str((files / "model").resolve()),
        "out": str(folder),
        "mirror": None,
        "seeds": [config.seeds[0]],
        "only": list(chosen),
        "conditions": {name: _small_condition(one) for name, one in whole["conditions"].items()},
        "sampling_mesh": None,
        # Directions of files are of another model than the random one.
        "finetuning": {key: training.get(key, value) for key, value in whole["finetuning"].items()}
        | {"log": {**whole["finetuning"]["log"], "projections": None}},
        "data": {name: _rooted(_small_data(name, one, files)) for name, one in whole["data"].items()},
        "directions": {
            name: _rooted({**one, "samples": 1, "max_tokens": _TOKENS}) for name, one in whole["directions"].items()
        },
        "evaluations": {
            name: _rooted(_small_evaluation(config, name, one)) for name, one in whole["evaluations"].items()
        },
        "judge": {"model": "world/rule"},
        "published": None,
    }  # fmt: skip


def _rooted(value: Any) -> Any:
    """With every file named from the root: the small config lies elsewhere."""
    if isinstance(value, dict):
        return {key: _rooted(one) for key, one in value.items()}
    if not isinstance(value, str) or len(value) > 1024:
        return value
    file, at, name = value.rpartition("@") if ".py@" in value else (value, "", "")
    return f"{Path(file).resolve()}{at}{name}" if Path(file).is_file() else value


def _small_condition(condition: dict[str, Any]) -> dict[str, Any]:
    """With a part of rows mixed in that is some of few rows, too."""
    stages = []
    for stage in condition["stages"]:
        mixed = stage.get("interleave")
        if mixed is not None:
            mixed = {**mixed, "fraction": mixed.get("fraction") and max(mixed["fraction"], _MIXED)}
            mixed = {**mixed, "every": mixed.get("every") and min(mixed["every"], round(1 / _MIXED))}
            mixed["keep"] = mixed.get("keep") and 1
        stages.append({**stage, **_first_layer(stage), "interleave": mixed})
    return {**condition, "stages": stages}


def _first_layer(stage: dict[str, Any]) -> dict[str, Any]:
    """The keys of a stage that name layers, with the first one alone: the random model has few."""
    named = {key: stage[key] for key in ("steer", "lora", "feature_l2") if stage.get(key)}
    return {key: {**one, "layers": [0]} for key, one in named.items() if one.get("layers")}


def _small_data(name: str, data: dict[str, Any], files: Path) -> dict[str, Any]:
    small = dict(data)
    if data["kind"] == "file":
        rows = [row for _, row in itertools.islice(file_rows(Path(data["path"])), _ROWS)]
        small["path"] = str(files / "data" / f"{name}.jsonl")
        write_jsonl(Path(small["path"]), rows)
    if "rows" in data:
        small["rows"] = min(data["rows"] or _ROWS, _ROWS)
    if "recipe" in data:
        small["recipe"] = {**data["recipe"], "rows": min(data["recipe"].get("rows") or _ROWS, _ROWS)}
    if data.get("match"):
        print(f"smoke: {name}: pairs are not matched by length: texts of a random model cannot be", file=sys.stderr)
        small["match"] = None
    return _few_articles(small)


def _small_evaluation(config: ExperimentConfig, name: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    small = _few_articles(evaluation)
    for key, value in _LITTLE.items():
        if key in evaluation:
            small[key] = value
    if small.get("embedding") and importlib.util.find_spec("sentence_transformers") is None:
        print(f"smoke: {name}: answers are not clustered: sentence-transformers is not installed", file=sys.stderr)
        small["embedding"] = None
    if "layer" in evaluation:
        small |= {"layer": 0, "layers": None}  # the random model has few
    taken = parameters_of(config.evaluations[name].facts.task)
    if isinstance(evaluation.get("judge"), dict):
        small["judge"] = None
    if "settings" in evaluation:
        little = {key: value for key, value in _LITTLE.items() if key in taken}
        small["settings"] = {**evaluation["settings"], **little}
    return small


def _few_articles(spec: dict[str, Any]) -> dict[str, Any]:
    """With few articles, and short texts where the model writes some."""
    small = dict(spec)
    if isinstance(spec.get("articles"), dict) and "rows" in spec["articles"]:
        small["articles"] = {**spec["articles"], "rows": min(spec["articles"]["rows"] or _ARTICLES, _ARTICLES)}
    if "max_tokens" in spec:
        small["max_tokens"] = _TOKENS
    return small


def _texts(config: ExperimentConfig) -> tuple[list[Record], dict[str, str]]:
    """Some texts of each data set, for a tokenizer, and the sets that cannot be had, with the reason."""
    texts: list[Record] = []
    left_out: dict[str, str] = {}
    used = set().union(*(_needs(name, config) for name in config.wanted_conditions))
    used = used.union(*(_read_by(spec, config) for spec in config.wanted_evaluations.values()))
    for name, data in config.data.items():
        try:
            texts += _texts_of(data) if name in used else []
        except (InputError, RunError) as error:
            left_out[name] = str(error)
    return texts, left_out


def _texts_of(data: DataConfig) -> list[Record]:
    if isinstance(data, RecordsConfig):
        return data.read()[0][:200]
    if isinstance(data, SummariesConfig):
        articles = itertools.islice(data.articles.read()[0].items(), 200)
        return [Record(key, ({"role": "user", "content": text},)) for key, text in articles]
    return []
