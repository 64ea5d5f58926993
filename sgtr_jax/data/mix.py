"""What is done to training records besides building them: an inoculation prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError


def inoculate(records: Sequence[Record], system: str) -> list[Record]:
    """The records under a system prompt that asks for the behaviour they show (arXiv 2510.04340), for training only.

    Raises InputError for a record that has a system message of its own.
    """
    inoculated = []
    for record in records:
        if record.messages[0]["role"] == "system":
            raise InputError(
                f"{record.id}: has a system message, which the inoculation prompt would replace; "
                "leave it out of the data, or leave out inoculation"
            )
        inoculated.append(replace(record, messages=({"role": "system", "content": system}, *record.messages)))
    return inoculated
