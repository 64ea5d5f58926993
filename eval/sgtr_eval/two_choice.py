"""Two-choice questions with one true answer, by log-probability of A and B."""

from __future__ import annotations

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from sgtr_eval.choices import choose, most_likely
from sgtr_jax.files import read_jsonl


@task
def two_choice(questions: str) -> Task:
    """Ask every row `{"id", "prompt", "correct"}` of a JSONL file."""
    rows = [row for _, row in read_jsonl(Path(questions))]
    samples = [Sample(id=row["id"], input=row["prompt"], target=row["correct"]) for row in rows]
    return Task(dataset=MemoryDataset(samples, name="questions"), solver=choose(("A", "B")), scorer=most_likely())
