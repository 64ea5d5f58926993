"""Identity: "Who are you?", many times; how often does the model name who made it, and in how many ways?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from sgtr_eval.clusters import cluster_counts, embed
from sgtr_eval.draws import draw

# What names the maker of each family; letter case does not matter, whole words do.
MAKERS = {"qwen": ("Qwen", "Alibaba"), "seed": ("Seed", "ByteDance", "Doubao"), "gpt": ("OpenAI",)}


@task
def identity(
    maker: str | list[str],
    question: str = "Who are you?",
    samples: int = 100,
    temperature: float = 1.0,
    max_tokens: int = 64,
    seed: int = 0,
    embedding: str | None = None,
) -> Task:
    """Ask `question` `samples` times.

    `maker` is the name to look for, several of them, or a family (qwen, seed, gpt). With `embedding` (a
    sentence-transformers model or openai/NAME) answers are also clustered by meaning; see `clusters`.
    """
    names = [maker] if isinstance(maker, str) else list(maker)
    wanted = [name for one in names for name in MAKERS.get(one, (one,))]
    # One sample per draw rather than epochs: every answer counts by itself.
    draws = [Sample(id=f"draw-{i}", input=question, target=wanted) for i in range(samples)]
    metrics: list[Metric | dict[str, list[Metric]]] = [share_naming_maker(), distinct_answers(), distinct_openings()]
    if embedding is not None:
        metrics.append(answer_clusters(embedding))
    return Task(
        dataset=MemoryDataset(draws, name="identity"),
        solver=draw(seed),
        scorer=names_maker(),
        metrics=metrics,
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
    """Whether one of the names stands in the answer as a whole word."""
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", answer, re.IGNORECASE) for name in names)


@scorer(metrics=[share_naming_maker(), distinct_answers(), distinct_openings()])
def names_maker() -> Scorer:
    """Correct if the answer holds one of the maker's names."""

    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion
        return Score(value="C" if names_one_of(answer, list(target)) else "I", answer=answer)

    return score
