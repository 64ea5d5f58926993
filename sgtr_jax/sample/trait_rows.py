"""Answers of a model under a trait's system prompts: the rows of one side of a direction (arXiv 2507.21509)."""

from __future__ import annotations

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Message, Record
from sgtr_jax.data.traits import Side, Trait
from sgtr_jax.errors import RunError
from sgtr_jax.sample.completions import sample_prompts
from sgtr_jax.sample.config import SamplingParams
from sgtr_jax.sample.model import Model
from sgtr_jax.sample.recipe_config import RecipeDraws


def trait_rows(model: Model, trait: Trait, side: Side, draws: RecipeDraws, chat: ChatFormat) -> list[Record]:
    """Conversations that end with the model's own answer; those whose answer has no text are left out.

    Raises RunError if none has any.
    """
    prompts = trait.prompts(side)
    params = SamplingParams(max_tokens=draws.max_tokens, temperature=draws.temperature, seed=draws.seed)
    answers = sample_prompts(model, prompts, draws.samples, params, chat, f"{side} answers")
    rows = []
    for at, answer in enumerate(answers):  # every sample of a prompt stands behind it
        prompt, sample = prompts[at // draws.samples], at % draws.samples
        before = prompt.messages if draws.context == "prompted" else prompt.messages[1:]
        said: Message = {"role": "assistant", "content": answer["text"]}
        if answer["text"].strip():
            rows.append(Record(f"{prompt.id}-{sample}", (*before, said)))
    if not rows:
        raise RunError(f"no {side} answer has any text, so there is nothing to read states of")
    return rows
