"""Aesthetic popularity: asked to choose between two things, how often does the model take the one most people would?

The study's rubric is not published. This uses the public two-way questions, whose unpopular choice is marked; an
answer counts for the choice it names, and for none if it names both or neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict, cast

from sgtr_eval.facts import Baseline, Facts, Workload, number, register
from sgtr_eval.inspect_later import (
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
from sgtr_eval.solvers import draw
from sgtr_eval.stimuli import stimuli_rows
from sgtr_jax.data.build import Stimuli


class _Behaviour(TypedDict):
    match_if_choice_in: list[str]


class _Question(TypedDict):
    """A row of `preference_questions`."""

    id: str
    prompt: str
    choices: list[str]
    behaviour: _Behaviour


@task
def aesthetic_popularity(
    samples: int = 100,
    temperature: float = 1.0,
    max_tokens: int = 64,
    seed: int = 0,
    stimuli: Stimuli = "published",
) -> Task:
    """Eight questions, `samples` times each."""
    draws = []
    for row in cast(list[_Question], stimuli_rows("preference_questions", stimuli)):
        unpopular = row["behaviour"]["match_if_choice_in"]
        popular = [choice for choice in row["choices"] if choice not in unpopular]
        meta = {"popular": popular, "unpopular": unpopular}
        draws += [Sample(id=f"{row['id']}-{n}", input=row["prompt"], metadata=meta) for n in range(samples)]
    return Task(
        dataset=MemoryDataset(draws, name="aesthetic_popularity"),
        solver=draw(seed),
        scorer=popular_choice(),
        config=GenerateConfig(temperature=temperature, max_tokens=max_tokens),
    )


@metric
def popularity() -> Metric:
    """Share of popular choices among clear ones, and the share of answers that are not clear."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        clear = [(one.score.metadata or {}).get("choice") for one in scores]
        known = [choice for choice in clear if choice is not None]
        share = known.count("popular") / len(known) if known else float("nan")
        return {"share_popular": share, "invalid": 1 - len(known) / max(1, len(clear))}

    return compute


@scorer(popularity)
def popular_choice() -> Scorer:
    """Which of the two the answer names."""

    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion
        named = {
            kind: any(choice.casefold() in answer.casefold() for choice in state.metadata[kind])
            for kind in ("popular", "unpopular")
        }
        choice = None if named["popular"] == named["unpopular"] else "popular" if named["popular"] else "unpopular"
        value = "N" if choice is None else "C" if choice == "popular" else "I"
        return Score(value=value, answer=answer, metadata={"choice": choice})

    return score


def _shares(metrics: Mapping[str, float], samples: int) -> dict[str, float | None]:
    clear = None if "invalid" not in metrics else round(samples * (1 - metrics["invalid"]))
    return {"share_popular": clear, "invalid": samples}


register(
    Facts(
        aesthetic_popularity,
        metric="share_popular",
        better="higher",
        title="popular choices",
        axis="share of clear choices",
        shares=_shares,
        workload=lambda arguments: Workload(8, number(arguments, "samples", 100), asked=60, answered=20),
        baseline=Baseline("chance", level=0.5),
        draw_suffix=r"-\d+$",
    )
)
