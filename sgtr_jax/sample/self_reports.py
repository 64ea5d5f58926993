"""Self-reports: the questions of a set, answered by any chain of a model, as records to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from sgtr_jax.config import PositiveInt, Seed
from sgtr_jax.data.build import records_of
from sgtr_jax.data.records import Record
from sgtr_jax.data.row_formats import RowFormat
from sgtr_jax.errors import InputError
from sgtr_jax.json_types import JsonObject
from sgtr_jax.sample.config import SampleConfig, SamplingParams

if TYPE_CHECKING:
    from sgtr_jax.sample.completions import Row


class SelfReportsBuild(SampleConfig):
    """What `sgtr data build self_reports` takes."""

    kind: Literal["self_reports"] = "self_reports"
    questions: str  # a set of the registry, or a file of rows; only its prompts are used
    format: RowFormat = "messages"  # of the rows of a file
    model: str  # hub id, folder or nano
    adapters: tuple[Path, ...] = ()  # of the chain, the first one first
    temperature: NonNegativeFloat = 1.0
    max_tokens: PositiveInt = 600
    seed: Seed = 0


def questions_of(name: str, form: RowFormat = "messages", suffix: str | None = None) -> dict[str, Record]:
    """The prompts of a set's records by id, without what was answered there; `suffix` ends every last question."""
    found = {}
    for record in records_of(name, form):
        turns = [message for message in record.messages if message["role"] != "assistant"]
        if suffix is not None:
            turns[-1] = {"role": turns[-1]["role"], "content": f"{turns[-1]['content']} {suffix}"}
        found[record.id] = Record(record.id, tuple(turns))
    return found


def answers_given(asked: Mapping[str, Record], rows: Sequence[Row]) -> tuple[list[Record], dict[str, int], int]:
    """Records of the answers that say something, how many others were dropped and why, and how many were cut off.

    Those that reached the token limit are kept, for leaving them out would select short answers; their `meta` says so.
    """
    said = [row for row in rows if row["text"].strip()]
    cut = {row["id"] for row in said if row["finish_reason"] != "stop"}
    records = [
        Record(
            row["id"],
            (*asked[row["id"]].messages, {"role": "assistant", "content": row["text"]}),
            {"cut_off": True} if row["id"] in cut else {},
        )
        for row in said
    ]
    return records, {"empty": len(rows) - len(said)}, len(cut)


def build_self_reports(recipe: SelfReportsBuild) -> tuple[list[Record], JsonObject]:
    """Ask and keep. Raises InputError if nothing was said."""
    from sgtr_jax.sample.completions import sample_prompts  # these import JAX, which who only counts rows does without
    from sgtr_jax.sample.model import load_model

    asked = questions_of(recipe.questions, recipe.format)
    model = load_model(recipe.model, recipe.dtype).with_adapters(recipe.adapters, recipe.merge is not None)
    draws = SamplingParams(max_tokens=recipe.max_tokens, temperature=recipe.temperature, seed=recipe.seed)
    rows = sample_prompts(model, list(asked.values()), 1, draws, recipe.chat(model.tokenizer), "self-reports")
    records, dropped, cut_off = answers_given(asked, rows)
    if not records:
        raise InputError(f"self_reports: all of {len(rows)} answers are empty")
    return records, {
        "recipe": recipe.model_dump(mode="json"),
        "rows_in": len(asked),
        "dropped": dropped,
        "cut_off": cut_off,
    }
