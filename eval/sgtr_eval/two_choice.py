"""Two-choice questions with one true answer, by log-probability of A and B."""

from __future__ import annotations

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from sgtr_eval.choices import choose, most_likely
from sgtr_eval.facts import Baseline, Facts, Workload, register
from sgtr_jax.errors import InputError
from sgtr_jax.files import read_jsonl


@task
def two_choice(questions: str) -> Task:
    """Ask every row `{"id", "prompt", "correct"}` of a JSONL file. Raises InputError for another row."""
    samples, seen = [], set()
    for where, row in read_jsonl(Path(questions)):
        name, prompt, correct = (row.get(key) for key in ("id", "prompt", "correct"))
        if not isinstance(name, str | int) or not isinstance(prompt, str) or correct not in ("A", "B"):
            raise InputError(f"{where}: expected id, a prompt, and A or B under correct; found {', '.join(row)}")
        if str(name) in seen:
            raise InputError(f"{where}: id {name!r} appears twice")
        seen.add(str(name))
        samples.append(Sample(id=name, input=prompt, target=correct))
    return Task(dataset=MemoryDataset(samples, name="questions"), solver=choose(("A", "B")), scorer=most_likely())


register(
    Facts(
        two_choice,
        metric="share_correct",
        better="higher",
        title="correct answers",
        axis="share of answers",
        workload=lambda arguments: Workload(200, 1, asked=60, answered=1),
        baseline=Baseline("chance", level=0.5),
        own_texts=lambda arguments: False,
    )
)
