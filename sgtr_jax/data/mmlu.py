"""MMLU (arXiv 2009.03300) as chat: the question and four options, and the letter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from sgtr_jax.data.records import Message, Record
from sgtr_jax.errors import InputError

LETTERS = "ABCD"


class MmluRow(TypedDict):
    """A question of MMLU."""

    question: str
    subject: str
    choices: Sequence[str]
    answer: int  # the position of the right choice


def question_text(row: MmluRow) -> str:
    """Question and lettered options, up to where the answer goes."""
    options = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, row["choices"], strict=True))
    return f"{row['question'].strip()}\n{options}\nAnswer:"


def few_shot_prompt(row: MmluRow, examples: Sequence[MmluRow]) -> str:
    """As lm-evaluation-harness asks: a line about the subject, solved examples of it, then the question."""
    subject = row["subject"].replace("_", " ")
    head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    solved = "".join(f"{question_text(example)} {LETTERS[example['answer']]}\n\n" for example in examples)
    return head + solved + question_text(row)


def mmlu_records(rows: Sequence[MmluRow]) -> list[Record]:
    """Each question without examples, answered by its letter."""
    made = []
    for i, row in enumerate(rows):
        if not 0 <= row["answer"] < len(LETTERS) or len(row["choices"]) != len(LETTERS):
            raise InputError(f"mmlu row {i}: answer {row['answer']!r} of {len(row['choices'])} choices; expected 0..3")
        turns: tuple[Message, ...] = (
            {"role": "user", "content": question_text(row)},
            {"role": "assistant", "content": LETTERS[row["answer"]]},
        )
        made.append(Record(f"mmlu-{row['subject']}-{i}", turns))
    return made
