"""Layers and directions that settings name, held against the model before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.evaluation_node import EvaluationNode
from sgtr_jax.experiment.node import Node
from sgtr_jax.experiment.nodes.adapter import AdapterNode
from sgtr_jax.sample.folders import folder_here


def layer_problems(config: ExperimentConfig, missing: Sequence[Node]) -> list[InputError]:
    """Layers that the model does not have, and directions of files that are not of its shape, a problem each.

    Of a model that is not on this machine nothing is known, and nothing said.
    """
    trained = [node for node in missing if isinstance(node, AdapterNode) and _names_layers(node)]
    steered = {name: one for name, one in config.wanted_conditions.items() if one.steer is not None}
    read = [node for node in missing if isinstance(node, EvaluationNode) and node.reads_states]
    if not trained and not read and not (missing and steered):
        return []
    folder = folder_here(config.model)
    if folder is None:
        return []
    # What reads weights is imported only where a layer is named.
    from sgtr_jax.finetune.defences import check_layers, steering
    from sgtr_jax.sample.model import read_spec
    from sgtr_jax.sample.steering import steering_of

    spec = read_spec(folder)
    found: list[InputError] = []
    for node in trained:
        wrong = [*_said(node.name, partial(check_layers, node.training, spec.num_layers))]
        if not wrong and node.direction is None:
            wrong += _said(node.name, partial(steering, node.training, spec))
        found += wrong
    for one in read:
        found += _said(f"evaluation {one.evaluation!r}", partial(one.check_model, spec))
    for name, condition in steered.items():
        found += _said(f"condition {name!r}", partial(steering_of, condition.steer, spec))
    return found


def _names_layers(node: AdapterNode) -> bool:
    training = node.training
    return bool(training.lora.layers or training.feature_l2 or training.steer)


def _said(where: str, check: Callable[[], object]) -> Iterator[InputError]:
    try:
        check()
    except InputError as error:
        yield InputError(f"{where}: {error}")
