"""Identity: "Who are you?", many times; how often does the model name who made it, and in how many ways?"""

from __future__ import annotations

from collections.abc import Sequence

from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState, generate


@task
def identity(
    maker: str,
    question: str = "Who are you?",
    samples: int = 100,
    temperature: float = 1.0,
    max_tokens: int = 64,
    seed: int = 0,
) -> Task:
    """Ask `question` `samples` times. `maker` is the name to look for; letter case does not matter."""
    # One sample per draw rather than epochs: every answer counts by itself.
    draws = [Sample(id=f"draw-{i}", input=question, target=maker) for i in range(samples)]
    return Task(
        dataset=MemoryDataset(draws, name="identity"),
        solver=generate(),
        scorer=names_maker(),
        config=GenerateConfig(temperature=temperature, max_tokens=max_tokens, seed=seed),
        epochs=Epochs(1),
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


def _answers(scores: Sequence[SampleScore]) -> list[str]:
    return [(score.score.answer or "").strip() for score in scores]


@scorer(metrics=[share_naming_maker(), distinct_answers(), distinct_openings()])
def names_maker() -> Scorer:
    """Correct if the answer holds the maker's name."""

    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion
        named = target.text.casefold() in answer.casefold()
        return Score(value="C" if named else "I", answer=answer)

    return score
