"""Self-reports: the questions of a set, answered by any chain of a model, as records to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeFloat

from sgtr_jax.config import PositiveInt, Seed
from sgtr_jax.data.build import records_of
from sgtr_jax.data.records import Record
from sgtr_jax.data.row_formats import RowFormat
from sgtr_jax.errors import InputError
from sgtr_jax.json_types import JsonObject
from sgtr_jax.sample.completions import Row, sample_prompts
from sgtr_jax.sample.config import SampleConfig, SamplingParams
from sgtr_jax.sample.model import load_model


class SelfReportsBuild(SampleConfig):
    """What `sgtr data build self_reports` takes."""

    kind: Literal["self_reports"] = "self_reports"
    questions: str  # a set of the registry, or a file of rows; only its prompts are used
    format: RowFormat = "messages"  # of the rows of a file
    model: str  # hub id, folder or nano
    adapters: tuple[Path, ...] = ()  # of the chain, the first one first
    temperature: NonNegativeFloat = 1.0
    max_tokens: PositiveInt = 200
    seed: Seed = 0


def questions_of(name: str, form: RowFormat = "messages") -> dict[str, Record]:
    """The prompts of a set's records by id, without what was answered there."""
    return {
        record.id: Record(record.id, tuple(m for m in record.messages if m["role"] != "assistant"))
        for record in records_of(name, form)
    }


def filter_finished(asked: Mapping[str, Record], rows: Sequence[Row]) -> tuple[list[Record], dict[str, int]]:
    """Records of the answers that say something and came to an end, and how many did not."""
    kept = [row for row in rows if row["text"].strip() and row["finish_reason"] == "stop"]
    records = [
        Record(row["id"], (*asked[row["id"]].messages, {"role": "assistant", "content": row["text"]})) for row in kept
    ]
    return records, {"empty or cut off": len(rows) - len(kept)}


def build_self_reports(recipe: SelfReportsBuild) -> tuple[list[Record], JsonObject]:
    """Ask and keep. Raises InputError if nothing that was said came to an end."""
    asked = questions_of(recipe.questions, recipe.format)
    model = load_model(recipe.model, recipe.dtype).with_adapters(recipe.adapters, recipe.merge is not None)
    draws = SamplingParams(max_tokens=recipe.max_tokens, temperature=recipe.temperature, seed=recipe.seed)
    rows = sample_prompts(model, list(asked.values()), 1, draws, recipe.chat(model.tokenizer), "self-reports")
    records, dropped = filter_finished(asked, rows)
    if not records:
        raise InputError(f"self_reports: not one of {len(rows)} answers came to an end; raise max_tokens")
    return records, {"recipe": recipe.model_dump(mode="json"), "rows_in": len(asked), "dropped": dropped}
