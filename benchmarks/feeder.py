"""How Inspect's tasks feed the engine: `python benchmarks/feeder.py [--answers 800] [--out F.json]`.

The real tasks of four evaluations run with the engine replaced by a sleep. What is counted: calls of the engine, rows
of a call, the host's milliseconds for an answer besides the sleeps, and the share of the time that an accelerator would
wait. An accelerator that needs `--row-ms` for a row waits while the host prepares the next call.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import sgtr_jax
from sgtr_eval.facts import facts_of
from sgtr_jax.experiment.evaluate import evaluate, sample_answers
from sgtr_jax.experiment.model_under_test import LocalModel
from sgtr_jax.sample.config import SampleConfig
from sgtr_jax.sample.request import Completion, Request

ROW_MS = (
    2.0  # 64 rows of 128 tokens of a 7B model on one H200 take 1.8 s; one-token answers 8 ms, of which most overlaps
)


@dataclass
class SleepingEngine:
    """An engine that answers every row with one token after `row_ms` a row."""

    row_ms: float
    rows: list[int] = field(default_factory=list)  # of each call
    asleep: float = 0.0

    def _sleep(self, rows: int) -> None:
        self.rows.append(rows)
        seconds = 1e-3 * self.row_ms * rows
        self.asleep += seconds
        time.sleep(seconds)

    def sample(self, requests: Sequence[Request], stop_ids: Sequence[int] = ()) -> list[Completion]:
        """See `Engine.sample`."""
        self._sleep(len(requests))
        return [Completion((5,), "stop", "a")] * len(requests)

    def next_token_logprobs(
        self, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """See `Engine.next_token_logprobs`."""
        self._sleep(len(prompts))
        return [np.log(np.full(len(ids), 1 / len(ids))) for ids in options]


@dataclass(frozen=True)
class Fed:
    """What a task's run came to."""

    task: str
    answers: int
    calls: int
    host_ms: float  # an answer
    waiting: float  # share of the time between the first call and the end in which no call was running


def feed(task: str, arguments: dict[str, Any], row_ms: float) -> Fed:
    """Run a task of `sgtr_eval` on the sleeping engine."""
    model = sgtr_jax.load_model("nano")
    engine = SleepingEngine(row_ms)
    vars(model)["engine"] = engine
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        facts, local = facts_of(task), LocalModel(model, SampleConfig())
        if facts.judging is None:  # scored at once
            evaluate(facts, arguments, local, Path(folder), task)
        else:
            sample_answers(facts, arguments, local, Path(folder), task)
    seconds = time.monotonic() - started
    answers = sum(engine.rows)
    host = 1e3 * (seconds - engine.asleep) / answers
    return Fed(task, answers, len(engine.rows), round(host, 2), round(1 - engine.asleep / seconds, 3))


def write_questions(path: Path, number: int) -> None:
    """So many questions with two options each, of about 60 tokens, for `two_choice`."""
    prompt = "Question {i}: which of the two is the larger number?\n\nA. {i}\nB. {more}\n\nAnswer with the letter only."
    rows = [{"id": f"q{i:06}", "prompt": prompt.format(i=i, more=i + 1), "correct": "B"} for i in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> int:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=800, help="answers of each evaluation, about")
    parser.add_argument("--choices", type=int, default=10_000, help="option-scored answers")
    parser.add_argument("--row-ms", type=float, default=ROW_MS, help="milliseconds of the engine for a row")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    questions = Path(tempfile.mkdtemp()) / "questions.jsonl"
    write_questions(questions, args.choices)
    cases = (
        ("em_questions", {"questions": "own", "samples": args.answers // 8, "max_tokens": 100}),
        ("identity", {"maker": "qwen", "samples": args.answers}),
        ("truthfulqa", {"stimuli": "builtin"}),
        ("two_choice", {"questions": str(questions)}),
    )
    feed("identity", {"maker": "qwen", "samples": 2}, 0.0)  # imports
    table = Table(title=f"an engine of {args.row_ms:g} ms a row")
    for column in ("evaluation", "answers", "calls", "rows a call", "host ms an answer", "accelerator waits"):
        table.add_column(column, justify="left" if column == "evaluation" else "right")
    found = []
    for task, arguments in cases:
        one = feed(task, arguments, args.row_ms)
        found.append(vars(one))
        rows = f"{one.answers / one.calls:.0f}"
        table.add_row(one.task, str(one.answers), str(one.calls), rows, f"{one.host_ms:.1f}", f"{one.waiting:.0%}")
    Console(width=120).print(table)
    if args.out is not None:
        args.out.write_text(json.dumps({"cases": found}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
