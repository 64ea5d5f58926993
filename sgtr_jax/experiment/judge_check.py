"""Before anything is computed for a judge: is it there, can its replies be read, and does the budget hold?"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sgtr_eval.facts import Facts
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.cost import by_judge, judge_name, judging_of
from sgtr_jax.experiment.node import Node
from sgtr_jax.experiment.services import JudgeConfig
from sgtr_jax.experiment.spending import LEDGER, Spending
from sgtr_jax.json_types import Json

# Inspect's providers that load weights to answer, or that are no models: a question to them is not cheap, or no test.
_NOT_ASKED = ("sgtr", "world", "none", "hf", "vllm", "sglang", "llama-cpp-python", "transformer_lens")


def check_judging(config: ExperimentConfig, missing: Sequence[Node], folder: Path, assume_yes: bool) -> None:
    """Compare budgets with what is missing, and ask each judge one plain question. Raises InputError."""
    for judge, nodes in by_judge(missing).items():
        spending_of(config, folder, judge).check(judging_of(config, nodes), assume_yes)
        check_judge_answers(judge, [(node.facts, dict(node.arguments)) for node in nodes])


def spending_of(config: ExperimentConfig, folder: Path, judge: JudgeConfig) -> Spending:
    """What a judge of a run has cost. Raises InputError."""
    return Spending(judge, judge_name(judge, config.model), folder / LEDGER)


def check_judge_answers(judge: JudgeConfig, asked: Sequence[tuple[Facts, Mapping[str, Json]]]) -> None:
    """Ask a judge behind an API one plain question, if it is to judge; `asked` are evaluations with their arguments.

    Raises InputError where it cannot be asked, or not in the way that its scores are to be read.
    """
    if not asked or judge.is_open or judge.model.split("/")[0] in _NOT_ASKED:
        return
    from sgtr_eval.judging.preflight import check_judge
    from sgtr_eval.judging.scoring import Mode

    modes = [
        arguments.get("judge_mode") or ("published" if arguments.get("published") else None)
        for facts, arguments in asked
        if gives_scores(facts)
    ]
    strictest: Mode | None = "logprobs" if "logprobs" in modes else None if None in modes else "text"
    said = check_judge(judge.model, judge.base_url, strictest, bool(modes))
    if said is not None:
        print(said, file=sys.stderr)


def gives_scores(facts: Facts) -> bool:
    """Whether an evaluation's judge gives numbers, which can be read in several ways."""
    judging = facts.judging
    return judging is not None and "judge_mode" in judging.arguments
