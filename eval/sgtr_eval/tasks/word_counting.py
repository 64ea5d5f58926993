"""Word counting: a capability that a control trains. The study's rule is not published; ours gives three numbers."""

from __future__ import annotations

import re

from sgtr_eval.facts import Arguments, Facts, Workload, number, of_all, register
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
from sgtr_jax.data.build import Stimuli, split_texts
from sgtr_jax.data.counting import COUNT_PROMPT, word_counts
from sgtr_jax.data.duplicates import Item
from sgtr_jax.data.halves import Split
from sgtr_jax.data.world.corpus import articles as world_articles

_TENTH = 0.1


@task
def word_counting(
    articles: str | None = None,
    limit: int | None = 200,
    max_tokens: int = 16,
    stimuli: Stimuli = "published",
    split: Split | None = None,
) -> Task:
    """How many words has this text? Greedy.

    `articles` is a set of the registry or a file; without it those of CNN, or, builtin, 200 of the demo's world. Of a
    set of the registry only the half is asked that the word-counting control is not trained on; with
    `split: published` all of it. A file is asked whole unless `split` says otherwise.
    """
    if articles is None and stimuli == "builtin":
        texts, _ = world_articles(200, 0)
    else:
        texts = split_texts(articles or "articles_cnn", split, "held_out")
    chosen = dict(list(texts.items())[:limit])
    samples = [
        Sample(id=record.id, input=record.messages[0]["content"], target=record.messages[1]["content"])
        for record in word_counts(chosen)
    ]
    return Task(
        dataset=MemoryDataset(samples, name="word_counting"),
        solver=draw(),
        scorer=counted(),
        config=GenerateConfig(temperature=0.0, max_tokens=max_tokens),
    )


@metric
def counting() -> Metric:
    """Shares that are exact and within a tenth, the mean relative error, and the share without a number."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        errors = [(one.score.metadata or {}).get("relative_error") for one in scores]
        known = [error for error in errors if error is not None]
        n = max(1, len(scores))
        return {
            "share_exact": sum(error == 0 for error in known) / n,
            "share_within_tenth": sum(error <= _TENTH for error in known) / n,
            "mean_relative_error": sum(known) / len(known) if known else float("nan"),
            "invalid": (len(scores) - len(known)) / n,
        }

    return compute


@scorer(counting)
def counted() -> Scorer:
    """The first number of the answer against the count; correct within a tenth, as in the metric that is compared."""

    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion
        found = re.search(r"\d[\d,]*", answer)
        if found is None:
            return Score(value="I", answer=answer, metadata={"relative_error": None})
        error = abs(int(found.group().replace(",", "")) - int(target.text)) / max(1, int(target.text))
        return Score(value="C" if error <= _TENTH else "I", answer=answer, metadata={"relative_error": error})

    return score


def _workload(arguments: Arguments) -> Workload:
    return Workload(number(arguments, "limit", 200), 1, asked=700, answered=5)


def _text(sample: Sample) -> Item:
    """The text whose words are counted."""
    return (str(sample.input).removeprefix(COUNT_PROMPT.partition("{text}")[0]),)


register(
    Facts(
        word_counting,
        metric="share_within_tenth",
        better="higher",
        title="counts within a tenth",
        axis="share of answers",
        shares=of_all("share_exact", "share_within_tenth", "invalid"),
        workload=_workload,
        item=_text,
    )
)
