"""Two-choice questions with one true answer, by log-probability of A and B."""

from __future__ import annotations

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from sgtr_eval.choices import choose, most_likely


@task
def two_choice(questions: str) -> Task:
    """Ask every row `{"id", "prompt", "correct"}` of a JSONL file."""
    rows = [json.loads(line) for line in Path(questions).read_text().splitlines()]
    samples = [Sample(id=row["id"], input=row["prompt"], target=row["correct"]) for row in rows]
    return Task(dataset=MemoryDataset(samples, name="questions"), solver=choose(("A", "B")), scorer=most_likely())
