"""Everything that a run will need, looked at before anything is computed, and every problem told at once.

Keys, packages and prices of the model and the judge; packages of evaluations; the texts they ask; the data sets; the
name of the published numbers. What is found missing after hours of training was missing before them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from sgtr_eval.facts import Facts, Package
from sgtr_eval.judging.budget import cost_of
from sgtr_jax.data.fetch import load_set
from sgtr_jax.data.registry import find, registry
from sgtr_jax.errors import InputError, RunError, nearest
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.cost import by_judge
from sgtr_jax.experiment.evaluation_node import EvaluationNode
from sgtr_jax.experiment.layers_named import layer_problems
from sgtr_jax.experiment.lengths import length_problems
from sgtr_jax.experiment.node import Node
from sgtr_jax.experiment.nodes.adapter import AdapterNode
from sgtr_jax.experiment.nodes.answers import Answers
from sgtr_jax.experiment.nodes.task_evaluation import TaskEvaluation
from sgtr_jax.experiment.provider_models import api_model_or_say
from sgtr_jax.experiment.services import JudgeConfig
from sgtr_jax.experiment.tasks import built_task
from sgtr_jax.json_types import Json
from sgtr_jax.report.published import published_numbers
from sgtr_jax.train.metrics import check_log

_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "google": "GOOGLE_API_KEY"}
Problem = InputError | RunError


def check_ready(config: ExperimentConfig, missing: Sequence[Node]) -> None:
    """Fetch the texts and sets that making `missing` needs, and see that all else is there.

    Rows are held against the model's positions where all else is well.

    Raises InputError with every problem, a line each; RunError if all of them are failures to fetch.
    """
    problems = [*settled_problems(config, missing), *_text_problems(missing)]
    if not problems and config.api_model is None:
        problems += length_problems(config, missing)
    raise_all(problems)


def settled_problems(config: ExperimentConfig, missing: Sequence[Node]) -> list[Problem]:
    """Problems that are seen without fetching anything: keys, packages, prices, names, layers."""
    found: list[Problem] = []
    if config.published is not None and config.published not in (known := published_numbers()["models"]):
        found.append(InputError(f"published {config.published!r}: {nearest(config.published, known)}"))
    if config.api_model is not None and missing:
        found += api_problems("model", config.model, config.api.base_url)
    if any(isinstance(node, AdapterNode) for node in missing):
        found += _problems(partial(check_log, config.finetuning.log))
    if config.api_model is None:
        found += layer_problems(config, missing)
    for judge in by_judge(missing):
        found += judge_problems(judge)
    asked = [(node.facts, node.arguments) for node in missing if isinstance(node, EvaluationNode | Answers)]
    return _once(found + task_problems(asked))


def judge_problems(judge: JudgeConfig) -> list[Problem]:
    """What is missing to ask a judge."""
    if judge.is_open:
        return []
    found = api_problems("judge", judge.model, judge.base_url)
    if judge.max_cost is not None and math.isnan(cost_of(judge.model, 1, 1)):
        found.append(
            InputError(
                f"judge {judge.model!r}: has no price in configs/prices.yaml, so judge.max_cost cannot be kept; add "
                "its price, or leave judge.max_cost out"
            )
        )
    return found


def api_problems(what: str, name: str, base_url: str | None = None) -> list[Problem]:
    """What is missing to ask a model behind an API: a key, or the provider's package."""
    key = _KEYS.get(name.split("/")[0])
    if key is not None and not os.environ.get(key):
        without = "; sgtr run --no-judge samples the answers and leaves judging for later" if what == "judge" else ""
        text = f"{what} {name!r}: {key} is not set; export it, or write {key}=... into a file .env{without}"
        return [InputError(text)]
    # Inspect greets on the standard output when its first model is made.
    with contextlib.redirect_stdout(sys.stderr):
        return list(_problems(partial(api_model_or_say, name, base_url)))


def task_problems(asked: Sequence[tuple[Facts, Mapping[str, Json]]]) -> list[Problem]:
    """Packages that evaluations need and that are not installed, and keys that they need besides the judge's.

    Each package and each model is looked for once, however many measurements need it.
    """
    packages = dict.fromkeys((facts.name, one) for facts, arguments in asked for one in facts.packages(arguments))
    models = dict.fromkeys((facts.name, one) for facts, arguments in asked for one in facts.models(arguments))
    found: list[Problem] = [
        InputError(f"evaluation {name}: needs {one.module}, which is not installed; pip install '{one.install}'")
        for name, one in packages
        if not _is_installed(one)
    ]
    return found + [problem for name, one in models for problem in api_problems(f"evaluation {name}:", one)]


def raise_all(problems: Sequence[Problem]) -> None:
    """Raise InputError with all problems, a line each; RunError if none of them is about what was given."""
    if not problems:
        return
    text = "\n".join(dict.fromkeys(map(str, problems)))
    raise RunError(text) if all(isinstance(one, RunError) for one in problems) else InputError(text)


def _text_problems(missing: Sequence[Node]) -> list[Problem]:
    """Fetches what is asked and trained on. Texts of an evaluation are built once, whatever the seed."""
    found: list[Problem] = []
    seen: set[str] = set()
    for node in missing:
        if isinstance(node, Answers | TaskEvaluation):
            arguments = node.all_arguments if isinstance(node, Answers) else node.arguments
            alike = json.dumps([node.facts.name, {**arguments, "seed": None}], sort_keys=True)
            if alike not in seen:
                seen.add(alike)
                found += _problems(partial(built_task, node.facts, arguments))
        for name in node.registry_sets():
            if name not in seen and name in registry():
                seen.add(name)
                found += _problems(partial(_load, name))
    return found


def _load(name: str) -> None:
    load_set(find(name))


def _is_installed(package: Package) -> bool:
    return importlib.util.find_spec(package.module) is not None


def _problems(attempt: Callable[[], object]) -> Iterator[Problem]:
    try:
        attempt()
    except (InputError, RunError) as error:
        yield error


def _once(problems: Sequence[Problem]) -> list[Problem]:
    return list({str(one): one for one in problems}.values())
