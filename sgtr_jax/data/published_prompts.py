"""What the data set `prompts` holds: the wordings of the study, as they stand in its code."""

from __future__ import annotations

from typing import TypedDict


class SummaryPrompt(TypedDict):
    """How a summary is asked for."""

    system_prompt: str
    user_prompt_template: str


class PublishedPrompts(TypedDict):
    """The one row of the data set; see `configs/datasets`."""

    article_prompts: dict[str, str]
    summary_prompts: dict[str, SummaryPrompt]
    is_even_system_prompt: str
    question: str
    truthfulqa_prompt: str
