"""Questions of your own, with a rubric of your own: sampled answers, each scored by a judge."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sgtr_eval.facts import Arguments, Facts, Judging, Workload, number, register
from sgtr_eval.inspect_later import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    MemoryDataset,
    Metric,
    Sample,
    SampleScore,
    Score,
    Scorer,
    Target,
    Task,
    TaskState,
    metric,
    scorer,
    task,
)
from sgtr_eval.judging.ask import ask_to_the_end
from sgtr_eval.judging.budget import Budget
from sgtr_eval.judging.rates import reasons_of
from sgtr_eval.judging.replies import last_verdict
from sgtr_eval.judging.scoring import Mode, record_of, score_of, unanswered
from sgtr_eval.judging.verdicts import why_no_verdict
from sgtr_eval.solvers import draw
from sgtr_eval.tasks.em_questions import filled_prompt
from sgtr_jax.data.questions import Question, read_questions
from sgtr_jax.errors import InputError
from sgtr_jax.files import read_text
from sgtr_jax.json_types import JsonObject

Scale = Literal["0-100", "choices"]
_NUMBER_WANTED = "Reply with one whole number from 0 to 100 and nothing else."
_CHOICE_WANTED = "End your reply with a line `VERDICT: ` followed by one of these words: {words}."
_JUDGE_TOKENS = 256
_TURNS = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


@task
def questions(
    file: str,
    rubric: str,
    scale: Scale = "0-100",
    choices: dict[str, float] | list[str] | None = None,
    samples: int = 10,
    temperature: float = 1.0,
    max_tokens: int = 600,
    system: str | None = None,
    seed: int = 0,
    judge_mode: Mode | None = None,
    min_mass: float = 0.25,
    max_cost: float | None = None,
) -> Task:
    """Ask each question of a JSONL file `samples` times; the judge is the model in the role `grader`.

    The rubric is a text file with the places `{question}` and `{answer}`, and `{reference}` where the rows have one.
    How the judge shall reply is added at its end. Raises InputError for files of another form.
    """
    rows, words = read_questions(Path(file)), words_of(scale, choices)
    prompt = read_rubric(Path(rubric), rows)
    draws = [_sample(row, n, system) for row in rows for n in range(samples)]
    counts = number_judge(prompt, judge_mode, min_mass, max_cost)
    return Task(
        dataset=MemoryDataset(draws, name=Path(file).stem),
        solver=draw(seed),
        scorer=counts if words is None else choice_judge(prompt, words, max_cost),
        metrics=[mean_score(list(words or {}))],
        config=GenerateConfig(temperature=temperature, max_tokens=max_tokens),
    )


def words_of(scale: Scale, choices: Mapping[str, float] | list[str] | None) -> dict[str, float] | None:
    """The verdicts and their values; None for numbers from 0 to 100. Of a list the first one is 1 and the others 0.

    Raises InputError.
    """
    if scale == "0-100":
        if choices is not None:
            raise InputError("choices are given, and scale is 0-100; say scale: choices, or leave them out")
        return None
    if isinstance(choices, list):
        choices = {word: float(i == 0) for i, word in enumerate(choices)}
    known = {word.strip().upper() for word in choices or ()}
    if not choices or len(known) < 2 or len(known) < len(choices) or not all(word.strip() for word in choices):
        raise InputError(
            f"choices are {choices!r:.80}; expected two or more different words, as [misaligned, aligned] (the first "
            "one counts), or a value for each, as {misaligned: 1, aligned: 0}"
        )
    if not all(math.isfinite(value) for value in choices.values()):
        raise InputError(f"choices are {choices!r:.80}; expected a number for each")
    return {word.strip(): float(value) for word, value in choices.items()}


def read_rubric(path: Path, rows: list[Question]) -> str:
    """The judge's instructions. Raises InputError where they have no place for the answer."""
    if not path.is_file():
        raise InputError(f"{path}: no such file (the rubric)")
    text = read_text(path)
    if "{answer}" not in text:
        raise InputError(
            f"{path}: has no placeholder {{answer}}, so that the judge would not see the answer; write "
            "{question} and {answer} where they belong"
        )
    if "{reference}" in text and (lacking := [row.id for row in rows if row.reference is None]):
        raise InputError(f"{path}: has a placeholder {{reference}}, and question {lacking[0]!r} has no reference")
    return text


def _sample(row: Question, n: int, system: str | None) -> Sample:
    turns = list(row.messages)
    if system is not None and turns[0]["role"] != "system":
        turns = [{"role": "system", "content": system}, *turns]
    meta = {"question_id": row.id, "question": row.text, "reference": row.reference or ""}
    asked: list[ChatMessage] = [_TURNS[turn["role"]](content=turn["content"]) for turn in turns]
    return Sample(id=f"{row.id}-{n}", input=asked, metadata=meta)


def _filled(rubric: str, wanted: str, state: TaskState) -> str:
    parts = {"question": state.metadata["question"], "reference": state.metadata["reference"]}
    return filled_prompt(f"{rubric.rstrip()}\n\n{wanted}", {**parts, "answer": state.output.completion})


@metric
def mean_score(words: list[str]) -> Metric:
    """The mean over the answers that have a score, the share of each verdict, and how many have none, and why."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        meta = [score.score.metadata or {} for score in scores]
        values = [one["score"] for one in meta if one.get("score") is not None]
        said = Counter(one.get("verdict") for one in meta)
        n = len(values)
        shares = {f"share_{word.lower().replace(' ', '_')}": said[word] / n if n else math.nan for word in words}
        counts = {"n_all": float(n), "n_no_score": float(len(meta) - n)}
        mean = sum(values) / n if n else math.nan
        return {"mean_score": mean, **shares, **counts, **reasons_of(one.get("no_score") for one in meta)}

    return compute


@scorer()
def number_judge(rubric: str, mode: Mode | None, min_mass: float, max_cost: float | None) -> Scorer:
    """A number from 0 to 100 for each answer; N without one."""
    budget = Budget(max_cost)

    async def score(state: TaskState, target: Target) -> Score:
        found = await score_of(_filled(rubric, _NUMBER_WANTED, state), mode, min_mass, budget)
        meta = {"score": found.score, "no_score": found.no_score, "reply": found.record, "cost": budget.spent}
        return Score(
            value="N" if found.score is None else found.score, answer=state.output.completion,
            metadata={**meta, "question_id": state.metadata["question_id"]},
        )  # fmt: skip

    return score


@scorer()
def choice_judge(rubric: str, words: dict[str, float], max_cost: float | None) -> Scorer:
    """One of the words for each answer, read from the last line that is a verdict; N without one."""
    budget, wanted = Budget(max_cost), _CHOICE_WANTED.format(words=", ".join(words))

    async def score(state: TaskState, target: Target) -> Score:
        prompt = _filled(rubric, wanted, state)
        reply = await ask_to_the_end(prompt, GenerateConfig(max_tokens=_JUDGE_TOKENS, temperature=0.0), budget)
        meta: JsonObject = {"score": None, "verdict": None, "question_id": state.metadata["question_id"]}
        if reply.output is None:
            meta |= {"no_score": reply.no_score, "reply": unanswered(prompt, reply)}
            return Score(value="N", answer=state.output.completion, metadata=meta)
        verdict = None if reply.unfinished else last_verdict(reply.text, list(words))
        meta |= {"verdict": verdict, "reply": record_of(prompt, reply.output), "cost": budget.spent}
        if verdict is None:
            meta["no_score"] = why_no_verdict(reply)
            return Score(value="N", answer=state.output.completion, metadata=meta)
        meta["score"] = words[verdict]
        return Score(value=words[verdict], answer=state.output.completion, metadata=meta)

    return score


def _workload(arguments: Arguments) -> Workload:
    return Workload(
        len(read_questions(Path(str(arguments["file"])))), number(arguments, "samples", 10), asked=100, answered=300
    )


def _shares(metrics: Mapping[str, float], samples: int) -> dict[str, float | None]:
    return {name: metrics.get("n_all", samples) for name in metrics if name.startswith("share_")}


register(
    Facts(
        questions,
        metric="mean_score",
        better="neither",
        title="mean score",
        axis="mean score of the judge",
        extent=(0.0, 100.0),
        shares=_shares,
        workload=_workload,
        judging=Judging(
            reply_tokens=20, arguments=("rubric", "scale", "choices", "judge_mode", "min_mass", "max_cost")
        ),
        draw_suffix=r"-\d+$",
        own_texts=lambda arguments: False,
    )
)
