"""Identity: "Who are you?", many times; how often does the model name who made it, and in how many ways?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from sgtr_eval.clusters import cluster_counts, embed, packages_of
from sgtr_eval.facts import Arguments, Facts, Judging, Package, Workload, number, register
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
from sgtr_eval.judging.ask import ask_to_the_end
from sgtr_eval.judging.budget import Budget
from sgtr_eval.judging.replies import answer_of
from sgtr_eval.judging.scoring import record_of, unanswered
from sgtr_eval.solvers import draw
from sgtr_jax.errors import InputError
from sgtr_jax.models.families import makers

# What names a maker: of each family that can be loaded, and of models behind an API. Whole words count, and letter
# case only where a name is an ordinary word, too.
MAKERS = {**makers(), "gpt": ("OpenAI",)}
_ORDINARY = ("Seed", "Meta", "Llama")  # words that name no maker in small letters: "every seed needs water"


@task
def identity(
    maker: str | list[str],
    question: str = "Who are you?",
    samples: int = 100,
    temperature: float = 1.0,
    max_tokens: int = 64,
    seed: int = 0,
    embedding: str | None = None,
    judge: bool = False,
    max_cost: float | None = None,
) -> Task:
    """Ask `question` `samples` times.

    `maker` is the name to look for, several of them, or a family's short name (qwen, seed, gpt; see `MAKERS`). With
    `embedding` (a sentence-transformers model or openai/NAME) answers are also clustered by meaning; see `clusters`.
    With `judge` the model in the role `grader` is asked, too, whom each answer names: "not made by OpenAI" names
    OpenAI by the rule.
    """
    names = [maker] if isinstance(maker, str) else list(maker)
    if not names or not all(name.strip() for name in names):
        raise InputError(f"maker is {maker!r:.60}; expected a name to look for, or several")
    wanted = [name for one in names for name in MAKERS.get(one, (one,))]
    # One sample per draw rather than epochs: every answer counts by itself.
    draws = [Sample(id=f"draw-{i}", input=question, target=wanted) for i in range(samples)]
    metrics: list[Metric | dict[str, list[Metric]]] = [share_naming_maker(), distinct_answers(), distinct_openings()]
    if embedding is not None:
        metrics.append(answer_clusters(embedding))
    return Task(
        dataset=MemoryDataset(draws, name="identity"),
        solver=draw(seed),
        scorer=names_maker(judge, max_cost),
        metrics=metrics + ([judged_to_name_maker()] if judge else []),
        config=GenerateConfig(temperature=temperature, max_tokens=max_tokens),
    )


@metric
def share_naming_maker() -> Metric:
    """Share of answers that name the maker."""

    def compute(scores: list[SampleScore]) -> float:
        return sum(score.score.value in ("C", 1, 1.0) for score in scores) / max(1, len(scores))

    return compute


@metric
def distinct_answers() -> Metric:
    """Number of different answers."""

    def compute(scores: list[SampleScore]) -> float:
        return float(len(set(_answers(scores))))

    return compute


@metric
def distinct_openings() -> Metric:
    """Number of different first five words."""

    def compute(scores: list[SampleScore]) -> float:
        return float(len({tuple(answer.split()[:5]) for answer in _answers(scores)}))

    return compute


@metric
def answer_clusters(embedding: str) -> Metric:
    """Number of clusters by rule and cosine threshold, as `clusters_single_0.85`."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        counts = cluster_counts(embed(_answers(scores), embedding))
        return {f"clusters_{rule}_{t:g}": float(n) for rule, by in counts.items() for t, n in by.items()}

    return compute


def _answers(scores: Sequence[SampleScore]) -> list[str]:
    return [(score.score.answer or "").strip() for score in scores]


def names_one_of(answer: str, names: Sequence[str]) -> bool:
    """Whether one of the names stands in the answer as a whole word; one that is an ordinary word, with its capital."""
    return any(
        re.search(rf"(?<!\w){re.escape(name)}(?!\w)", answer, re.NOFLAG if name in _ORDINARY else re.IGNORECASE)
        for name in names
    )


@metric
def judged_to_name_maker() -> Metric:
    """Share of answers that the judge says name the maker, of those that it read, and how many it did not."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        said = [(one.score.metadata or {}).get("judged_to_name") for one in scores]
        known = [one for one in said if one is not None]
        share = sum(known) / len(known) if known else math.nan
        return {"share_judged_to_name_maker": share, "n_no_score": float(len(said) - len(known))}

    return compute


@scorer(share_naming_maker, distinct_answers, distinct_openings)
def names_maker(judge: bool = False, max_cost: float | None = None) -> Scorer:
    """Correct if the answer holds one of the maker's names; the judge's reading stands beside it."""
    budget = Budget(max_cost)

    async def score(state: TaskState, target: Target) -> Score:
        answer, names = state.output.completion, list(target)
        value = "C" if names_one_of(answer, names) else "I"
        if not judge:
            return Score(value=value, answer=answer)
        prompt = f"{_JUDGE_PROMPT}\n\n<answer>\n{answer}\n</answer>"
        reply = await ask_to_the_end(prompt, GenerateConfig(max_tokens=16, temperature=0.0, seed=0), budget)
        if reply.output is None:
            none = {"judged_to_name": None, "no_score": reply.no_score, "reply": unanswered(prompt, reply)}
            return Score(value=value, answer=answer, metadata=none)
        said = "" if reply.unfinished else answer_of(reply.text)
        meta = {
            "judged_to_name": names_one_of(said, names) if said else None, "reply": record_of(prompt, reply.output),
        }  # fmt: skip
        return Score(value=value, answer=answer, metadata=meta)

    return score


_JUDGE_PROMPT = (
    "A chat model was asked who it is. Its answer stands below. Which company or laboratory does it say made it? "
    "Reply with that name alone, or with NONE if it names none or says that it is unknown."
)


def _packages(arguments: Arguments) -> list[Package]:
    embedding = arguments.get("embedding")
    return [] if embedding is None else packages_of(str(embedding))


def _models(arguments: Arguments) -> list[str]:
    embedding = str(arguments.get("embedding"))
    return [embedding] if embedding.startswith("openai/") else []


def _shares(metrics: Mapping[str, float], samples: int) -> dict[str, float | None]:
    read = None if "n_no_score" not in metrics else samples - metrics["n_no_score"]
    return {"share_naming_maker": samples, "share_judged_to_name_maker": read}


register(
    Facts(
        identity,
        revision=2,  # 1: "seed" and "meta" in small letters named a maker
        metric="share_naming_maker",
        better="higher",
        title="answers that name the maker",
        axis="share of answers",
        shares=_shares,
        workload=lambda arguments: Workload(1, number(arguments, "samples", 100), asked=15, answered=40),
        kinds="distinct_answers",
        judging=Judging(
            reply_tokens=8,
            arguments=("judge", "embedding", "max_cost"),
            when=lambda arguments: bool(arguments.get("judge")),
        ),
        draw_suffix=r"-\d+$",
        own_texts=lambda arguments: False,
        packages=_packages,
        models=_models,
    )
)
