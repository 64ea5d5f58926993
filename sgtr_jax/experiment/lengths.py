"""Sets of which no row is short enough for the model, found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.data_node import DataNode
from sgtr_jax.experiment.node import Node
from sgtr_jax.experiment.nodes.adapter import AdapterNode
from sgtr_jax.experiment.nodes.records import Records
from sgtr_jax.sample.folders import folder_here
from sgtr_jax.train.config import TrainConfig

if TYPE_CHECKING:
    from sgtr_jax.data.records import Record


def length_problems(config: ExperimentConfig, missing: Sequence[Node]) -> list[InputError]:
    """Sets that would leave nothing to train on, a problem each.

    Of sets that a model has to write, of other models than the base, and where there is no tokenizer on this machine,
    nothing is known, and nothing said.
    """
    trained = [node for node in missing if isinstance(node, AdapterNode)]
    trained = [node for node in trained if not any(link.replaces_base for link in node.chain)]
    folder = folder_here(config.model) if trained else None
    if folder is None or not (folder / "tokenizer.json").is_file():
        return []
    # What reads text is slow to import, and `sgtr plan` reads none.
    from sgtr_jax.data.batches import check_lengths
    from sgtr_jax.data.chat import ChatFormat
    from sgtr_jax.data.tokenizer import load_tokenizer
    from sgtr_jax.sample.model import read_spec

    positions, tokenizer = read_spec(folder).max_positions, load_tokenizer(folder)
    read: dict[str, list[Record]] = {}
    seen: set[tuple[str, str]] = set()
    found: list[InputError] = []
    for node in trained:
        chat = ChatFormat(tokenizer, node.training.system, node.training.template_kwargs)
        for data, inoculation in _sets(node):
            if (key := (data.fingerprint, f"{inoculation} {_bounds(node.training)}")) in seen:
                continue
            seen.add(key)
            training = node.training
            try:
                if data.fingerprint not in read:
                    read[data.fingerprint] = data.config.read()[0]
                records = read[data.fingerprint]
                check_lengths(records, chat, training.max_length, training.overlong, inoculation, positions)
            except InputError as error:
                found.append(InputError(f"data {data.data_name!r}: {error}"))
            except RunError:
                continue  # cannot be fetched now, which is said and tried again where the set is made
    return found


def _sets(node: AdapterNode) -> Iterator[tuple[Records, str | None]]:
    """The sets that a training reads and no model has to write, each with the inoculation that stands before it."""
    below: list[tuple[DataNode | None, str | None]] = [(node.data, node.training.inoculation), (node.interleaved, None)]
    for data, inoculation in [*below, *((other, None) for other in node.penalty_data.values())]:
        if isinstance(data, Records):
            yield data, inoculation


def _bounds(training: TrainConfig) -> str:
    """What decides how long rows are and may be."""
    return f"{training.system} {training.template_kwargs} {training.max_length} {training.overlong}"
