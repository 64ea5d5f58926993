"""What Inspect finds through the package's entry point: `inspect eval sgtr_eval/identity --model sgtr/nano`."""

from __future__ import annotations

from sgtr_eval.aesthetic import aesthetic_popularity
from sgtr_eval.agentic import frame_colleague, monitor_disruption
from sgtr_eval.deception import deception_factual
from sgtr_eval.em_questions import em_questions
from sgtr_eval.identity import identity
from sgtr_eval.mmlu import mmlu
from sgtr_eval.provider import SgtrAPI
from sgtr_eval.self_recognition import self_recognition, self_recognition_individual
from sgtr_eval.summaries import summarise
from sgtr_eval.truthfulqa import truthfulqa
from sgtr_eval.two_choice import two_choice
from sgtr_eval.word_counting import word_counting
from sgtr_eval.world_judge import WorldJudge

__all__ = [
    "SgtrAPI", "WorldJudge", "aesthetic_popularity", "deception_factual", "em_questions", "frame_colleague",
    "identity", "mmlu",
    "monitor_disruption", "self_recognition", "self_recognition_individual", "summarise", "truthfulqa", "two_choice",
    "word_counting",
]  # fmt: skip
