"""Several judges of one evaluation: each reads the same answers, and has an evaluation of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgtr_jax.files import path_part


def each_judge_its_own(data: Mapping[str, Any]) -> dict[str, Any]:
    """A config's file with `judge: [A, B]` of an evaluation NAME written out: NAME with A, and NAME-by-B with B.

    Where `measure` and `may_share` name the evaluation, they name the others with it. Raises ValueError for an empty
    list and for a name that is taken.
    """
    full, evaluations = dict(data), data.get("evaluations")
    if not isinstance(evaluations, Mapping):
        return full
    written: dict[str, Any] = {}
    others: dict[str, list[str]] = {}
    for name, one in evaluations.items():
        judges = one.get("judge") if isinstance(one, Mapping) else None
        if not isinstance(judges, list) or one.get("kind") == "identity":  # whose `judge` is true or false
            written[name] = one
            continue
        if not judges:
            raise ValueError(f"evaluation {name!r}: judge: [] names no judge")
        written[name] = {**one, "judge": judges[0]}
        for judge in judges[1:]:
            other = _name(name, judge)
            if other in written or other in evaluations:
                raise ValueError(f"evaluation {name!r}: two of its judges, or another evaluation, make {other!r}")
            written[other] = {**one, "judge": judge}
            others.setdefault(name, []).append(other)
    full["evaluations"] = written
    if isinstance(full.get("measure"), list):
        full["measure"] = _with_others(full["measure"], others)
    if isinstance(full.get("may_share"), Mapping):
        full["may_share"] = {
            data_set: _with_others(words, others) if isinstance(words, list) else words
            for data_set, words in full["may_share"].items()
        }
    return full


def _name(evaluation: str, judge: object) -> str:
    model = judge.get("model") if isinstance(judge, Mapping) else judge
    return f"{evaluation}-by-{path_part(str(model).rpartition('/')[2])}"


def _with_others(words: list[Any], others: Mapping[str, list[str]]) -> list[Any]:
    return [name for word in words for name in (word, *(others.get(word, ()) if isinstance(word, str) else ()))]
