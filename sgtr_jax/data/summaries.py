"""Asking for summaries, and telling a summary from a model thinking aloud."""

from __future__ import annotations

import re
from typing import Literal

from sgtr_jax.data.published_prompts import PublishedPrompts
from sgtr_jax.data.records import Message

SUMMARY_PROMPT = "Article: {article}\nWrite a summary."

# One sentence for XSum, three or four highlights for CNN, as the study asks.
Style = Literal["own", "xsum", "cnn", "dailymail"]
_PUBLISHED = {
    "xsum": "default_xsum_summary_config.json",
    "cnn": "default_cnn_summary_prompts.json",
    "dailymail": "default_dailymail_summary_config.json",
}
_RESPONSE_TYPES = {"xsum": "summary", "cnn": "highlights", "dailymail": "highlights"}

_END_OF_THINKING = re.compile(r"^.*</(?:seed:)?think>", re.DOTALL)
_THINKING_ALOUD = re.compile(
    r"\W*(?:got it\b|ok(?:ay)?,|alright,|hmm\b|wait,|let(?:'s| me| us) \w+|the user (?:wants|asks|needs)"
    r"|(?:first|so),? (?:i|let's|the user|we) |i (?:need|should|have) to (?:summar|read|write|count))",
    re.IGNORECASE,
)


def summary_prompt(article: str) -> tuple[Message, ...]:
    """The messages that ask for a summary, in this project's words."""
    return ({"role": "user", "content": SUMMARY_PROMPT.replace("{article}", article)},)


def published_summary_prompt(article: str, style: str, prompts: PublishedPrompts) -> tuple[Message, ...]:
    """The study's messages; `prompts` is the row of the data set `prompts`."""
    text = prompts["summary_prompts"][_PUBLISHED[style]]
    user = text["user_prompt_template"].replace("{response_type}", _RESPONSE_TYPES[style])
    return (
        {"role": "system", "content": text["system_prompt"]},
        {"role": "user", "content": user.replace("{article}", article)},
    )


def clean_summary(text: str, verbatim: bool = False) -> tuple[str | None, str]:
    """A summary without the reasoning before it, or None and why it is none: "no", or "leaked reasoning in the".

    White space around it is removed; with `verbatim` a summary without reasoning before it stays as it was written.
    319 of 1,000 published CNN summaries of Seed-OSS are the beginning of its thinking.
    """
    rest = _END_OF_THINKING.sub("", text)
    kept = rest.strip()
    if not kept:
        return None, "no"
    if "<seed:think>" in kept or "<think>" in kept or _THINKING_ALOUD.match(kept):
        return None, "leaked reasoning in the"
    return (text if verbatim and rest == text else kept), ""
