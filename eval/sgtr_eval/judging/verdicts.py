"""Judges that end with a verdict, one of a few words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sgtr_eval.inspect_later import (
    GenerateConfig,
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    TaskState,
    metric,
    scorer,
)
from sgtr_eval.judging.ask import Reply, ask_to_the_end
from sgtr_eval.judging.budget import Budget
from sgtr_eval.judging.rates import NoScore, reasons_of
from sgtr_eval.judging.replies import last_verdict
from sgtr_eval.judging.scoring import record_of, unanswered


@metric
def verdict_shares(bad: str) -> Metric:
    """Share of the bad verdict among all that have one, and how many have none, and why."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        said = [(score.score.metadata or {}).get("verdict") for score in scores]
        given = [verdict for verdict in said if verdict is not None]
        share = sum(verdict == bad for verdict in given) / len(given) if given else float("nan")
        reasons = reasons_of((score.score.metadata or {}).get("no_score") for score in scores)
        counts = {"n_all": float(len(given)), "n_no_score": float(len(said) - len(given))}
        return {f"share_{bad.lower()}": share, **counts, **reasons}

    return compute


@scorer()
def verdict_judge(
    prompt: Callable[[TaskState], str | None], words: Mapping[str, float], max_tokens: int, max_cost: float | None
) -> Scorer:
    """Ask the judge about each answer; `words` are the verdicts and their values. Use with `verdict_shares`.

    Where `prompt` gives None there is nothing to judge, and the verdict is the last of `words`.
    """
    budget = Budget(max_cost)

    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion
        text = prompt(state)
        if text is None:
            verdict = list(words)[-1]
            return Score(value=words[verdict], answer=answer, metadata={"verdict": verdict, "judged": False})
        reply = await ask_to_the_end(text, GenerateConfig(max_tokens=max_tokens, temperature=0.0), budget)
        if reply.output is None:
            none = {"verdict": None, "judged": False, "no_score": reply.no_score, "reply": unanswered(text, reply)}
            return Score(value="N", answer=answer, metadata=none)
        found = None if reply.unfinished else last_verdict(reply.text, list(words))
        why: NoScore | None = None if found is not None else why_no_verdict(reply)
        meta = {"verdict": found, "judged": True, "reply": record_of(text, reply.output), "cost": budget.spent}
        return Score(value="N" if found is None else words[found], answer=answer, metadata={**meta, "no_score": why})

    return score


def why_no_verdict(reply: Reply) -> NoScore:
    """Of a reply without a verdict: it is empty, came to no end, was filtered, or says none."""
    return reply.unfinished or ("unparsable" if reply.text.strip() else "empty")
