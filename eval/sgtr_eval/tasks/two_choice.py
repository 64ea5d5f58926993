"""Two-choice questions with one true answer, by log-probability of A and B."""

from __future__ import annotations

from pathlib import Path

from sgtr_eval.choices import CHOICE_SHARES, choose, most_likely
from sgtr_eval.facts import Baseline, Facts, Workload, register
from sgtr_eval.inspect_later import MemoryDataset, Sample, Task, task
from sgtr_jax.data.questions import read_choices


@task
def two_choice(questions: str) -> Task:
    """Ask every row `{"id", "prompt", "correct"}` of a JSONL file. Raises InputError for another row."""
    rows = read_choices(Path(questions))
    samples = [Sample(id=row["id"], input=row["prompt"], target=row["correct"]) for row in rows]
    return Task(dataset=MemoryDataset(samples, name="questions"), solver=choose(("A", "B")), scorer=most_likely())


register(
    Facts(
        two_choice,
        revision=2,  # 1: of a model that may think, read at the first token of the thought
        metric="share_correct",
        better="higher",
        title="correct answers",
        axis="share of answers",
        shares=CHOICE_SHARES,
        workload=lambda arguments: Workload(200, 1, asked=60, answered=1),
        baseline=Baseline("chance", level=0.5),
        own_texts=lambda arguments: False,
    )
)
