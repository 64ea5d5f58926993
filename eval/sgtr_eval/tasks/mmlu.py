"""MMLU (arXiv 2009.03300): five solved examples of the subject, then the question; the likeliest of A to D.

The text is that of lm-evaluation-harness 0.4.11, put into one user turn: our models are asked in their chat format,
where the harness asks without one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import cast

from sgtr_eval.choices import CHOICE_SHARES, Mode, choose, most_likely
from sgtr_eval.facts import Arguments, Baseline, Facts, Workload, number, register
from sgtr_eval.inspect_later import MemoryDataset, Sample, Task, task
from sgtr_eval.stimuli import stimuli_rows
from sgtr_jax.data.build import Stimuli
from sgtr_jax.data.duplicates import Item
from sgtr_jax.data.mmlu import LETTERS, MmluRow, few_shot_prompt


@task
def mmlu(
    shots: int = 5, mode: Mode = "logprobs", limit_per_subject: int | None = None, stimuli: Stimuli = "published"
) -> Task:
    """14,042 questions in 57 subjects; `limit_per_subject` takes the first so many of each."""
    examples: dict[str, list[MmluRow]] = defaultdict(list)
    for row in cast(list[MmluRow], stimuli_rows("mmlu_dev", stimuli)):
        examples[row["subject"]].append(row)
    taken: dict[str, int] = defaultdict(int)
    samples = []
    for i, row in enumerate(cast(list[MmluRow], stimuli_rows("mmlu", stimuli))):
        subject = row["subject"]
        taken[subject] += 1
        if limit_per_subject is not None and taken[subject] > limit_per_subject:
            continue
        samples.append(
            Sample(
                id=f"{subject}-{i}",
                input=few_shot_prompt(row, examples[subject][:shots]),
                target=LETTERS[row["answer"]],
                metadata={"subject": subject},
            )
        )
    dataset = MemoryDataset(samples, name="mmlu")
    return Task(dataset=dataset, solver=choose(tuple(LETTERS), mode), scorer=most_likely())


def _workload(arguments: Arguments) -> Workload:
    per_subject = number(arguments, "limit_per_subject", 14042)
    shots = number(arguments, "shots", 5)
    # Solved examples are as long as questions, and the same for all questions of a subject.
    each = 700 // 6
    return Workload(
        min(14042, 57 * per_subject), 1, asked=each * (shots + 1), answered=1, groups=57, shared=each * shots
    )


def _question(sample: Sample) -> Item:
    """The question and its options, without the solved examples and the letters."""
    text = str(sample.input).removesuffix("\nAnswer:")
    parts = [text]
    for letter in reversed(LETTERS):
        rest, _, option = parts[0].rpartition(f"\n{letter}. ")
        parts[:1] = [rest, option]
    # Solved examples, and the line about the subject, end with an empty line.
    return (parts[0].rpartition("\n\n")[2], *parts[1:])


register(
    Facts(
        mmlu,
        revision=2,  # 1: of a model that may think, read at the first token of the thought
        metric="share_correct",
        better="higher",
        title="correct answers",
        axis="share of answers",
        shares=CHOICE_SHARES,
        workload=_workload,
        baseline=Baseline("chance", level=0.25),
        item=_question,
    )
)
