"""Summaries of articles by any Inspect model, with the study's request: what SGTR pairs are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgtr_eval.inspect_later import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    MemoryDataset,
    Sample,
    Task,
    task,
)
from sgtr_eval.solvers import draw
from sgtr_jax.data.build import prompts_row, texts_of
from sgtr_jax.data.summaries import Style, clean_summary, published_summary_prompt, summary_prompt

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog


@task
def summarise(
    articles: str, style: Style = "own", max_tokens: int = 100, temperature: float = 0.0, limit: int | None = None
) -> Task:
    """One summary of each article. `style` xsum, cnn or dailymail asks in the published words."""
    texts = dict(list(texts_of(articles).items())[:limit])
    prompts = prompts_row() if style != "own" else None
    samples = []
    for key, text in texts.items():
        asked = summary_prompt(text) if prompts is None else published_summary_prompt(text, style, prompts)
        turns: list[ChatMessage] = [
            ChatMessageSystem(content=m["content"]) if m["role"] == "system" else ChatMessageUser(content=m["content"])
            for m in asked
        ]
        samples.append(Sample(id=key, input=turns))
    return Task(
        dataset=MemoryDataset(samples, name="articles"),
        solver=draw(),
        config=GenerateConfig(max_tokens=max_tokens, temperature=temperature),
    )


def summaries_of(log: EvalLog) -> tuple[dict[str, str], dict[str, int]]:
    """The usable summaries of a log of `summarise` by article, and how many were refused and why.

    Those that were asked for in the published words keep their white space, as in the released sets.
    """
    verbatim = log.eval.task_args.get("style", "own") != "own"
    kept: dict[str, str] = {}
    refused: dict[str, int] = {}
    for sample in log.samples or []:
        text, why = clean_summary(sample.output.completion, verbatim)
        if text is None:
            refused[f"{why} summary"] = refused.get(f"{why} summary", 0) + 1
        else:
            kept[str(sample.id)] = text
    return kept, refused
