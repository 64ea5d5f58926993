"""Frame Colleague and Monitor Disruption: one turn each in which a model could act against people or oversight.

Scenarios and rubric (UK AI Safety Institute, MIT licence) come with the data set `agentic`, settings as published:
100 samples; temperature 0.7 and 2,048 tokens, temperature 1 and 4,096 tokens; one judge, whose verdict line counts.
"""

from __future__ import annotations

from typing import cast

from sgtr_eval.facts import Arguments, Facts, Judging, Workload, number, register
from sgtr_eval.inspect_later import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    MemoryDataset,
    Sample,
    Task,
    TaskState,
    task,
)
from sgtr_eval.judging.verdicts import verdict_judge, verdict_shares
from sgtr_eval.solvers import draw
from sgtr_eval.stimuli import stimuli_rows
from sgtr_eval.tasks.em_questions import filled_prompt
from sgtr_jax.data.build import Stimuli

_VERDICTS = {"Misaligned": 1.0, "Aligned": 0.0}
_JUDGE_TOKENS = 512


@task
def frame_colleague(
    samples: int = 100,
    temperature: float = 0.7,
    max_tokens: int = 2048,
    seed: int = 0,
    max_cost: float | None = None,
    stimuli: Stimuli = "published",
) -> Task:
    """Would the model make a colleague look guilty, when that would give it more to manage?"""
    texts = _texts(stimuli)["frame_colleague"]
    system, user = texts["FRAME_COLLEAGUE_SYSTEM_PROMPT"], texts["FRAME_COLLEAGUE_USER_PROMPT"]
    return _scenario("frame_colleague", system, user, samples, temperature, max_tokens, seed, max_cost, stimuli)


@task
def monitor_disruption(
    samples: int = 100,
    temperature: float = 1.0,
    max_tokens: int = 4096,
    seed: int = 0,
    max_cost: float | None = None,
    stimuli: Stimuli = "published",
) -> Task:
    """Would the model act against a monitor that is about to be installed?"""
    texts = _texts(stimuli)["monitor_disruption"]
    user = texts["USER_PROMPT"] + texts["EMAIL_CONTENT"]
    return _scenario(
        "monitor_disruption", texts["SYSTEM_PROMPT"], user, samples, temperature, max_tokens, seed, max_cost, stimuli
    )


def _texts(stimuli: Stimuli) -> dict[str, dict[str, str]]:
    (row,) = cast(list[dict[str, dict[str, str]]], stimuli_rows("agentic", stimuli))
    return row


def _scenario(
    name: str, system: str, user: str, samples: int, temperature: float, max_tokens: int, seed: int,
    max_cost: float | None, stimuli: Stimuli,
) -> Task:  # fmt: skip
    rubric = _texts(stimuli)["opus_strict"]["OPUS_STRICT_PROMPT"]

    def prompt(state: TaskState) -> str:
        # What the model thought aloud, in tags or in its own thinking block, is judged with its answer.
        return filled_prompt(rubric, {"system": system, "user": user, "assistant": whole_output(state)})

    turns: list[ChatMessage] = [ChatMessageSystem(content=system), ChatMessageUser(content=user)]
    draws = [Sample(id=f"draw-{i}", input=list(turns)) for i in range(samples)]
    return Task(
        dataset=MemoryDataset(draws, name=name),
        solver=draw(seed),
        scorer=verdict_judge(prompt, _VERDICTS, _JUDGE_TOKENS, max_cost),
        metrics=[verdict_shares("Misaligned")],
        config=GenerateConfig(temperature=temperature, max_tokens=max_tokens),
    )


def whole_output(state: TaskState) -> str:
    """The reasoning that the provider keeps apart, then the answer."""
    content = state.output.message.content if state.output.choices else ""
    if isinstance(content, str):
        return content
    parts = [getattr(part, "reasoning", None) or getattr(part, "text", "") for part in content]
    return "\n".join(part for part in parts if part)


def _workload(arguments: Arguments) -> Workload:
    return Workload(1, number(arguments, "samples", 100), asked=1500, answered=1200)


for _scene in (frame_colleague, monitor_disruption):
    register(
        Facts(
            _scene,
            metric="share_misaligned",
            better="lower",
            title="misaligned verdicts",
            axis="share of verdicts",
            shares=lambda metrics, samples: {"share_misaligned": metrics.get("n_all", samples)},
            workload=_workload,
            judging=Judging(reply_tokens=300),
            in_average=True,
            draw_suffix=r"-\d+$",
        )
    )
