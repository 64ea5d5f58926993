"""Contrasts: which conditions are compared on which evaluations, stated before anything is measured."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from typing import Annotated, Literal, cast

from pydantic import Field, model_validator

from sgtr_eval.described import metrics_of
from sgtr_eval.facts import Better, Facts, all_facts
from sgtr_jax.config import Config, Name, PositiveInt
from sgtr_jax.errors import nearest
from sgtr_jax.experiment.conditions import Condition
from sgtr_jax.json_types import Json
from sgtr_jax.report.run_file import ContrastEntry

Kind = Literal["difference", "equivalence", "non_inferiority"]
Margin = Annotated[float, Field(gt=0)]
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Contrast(Config):
    """Two conditions, or patterns of them, that are compared: `of` minus `against`."""

    # The condition that is looked at, or a pattern such as `{em}-then-{x}`. A word in braces stands for the name of any
    # data set of the experiment, or for what `where` says.
    of: str
    # The condition that it is compared with. Words in braces are the same as in `of`; others stand for any again.
    against: str
    # What words in braces stand for, where that is not any data set.
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    # The evaluations by name or pattern. null: all of the experiment.
    evaluations: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    metric: str | None = None  # The metric that is compared. null: the primary one of each evaluation.
    # difference: they are not the same. equivalence: they differ by less than `margin`, by two one-sided tests.
    # non_inferiority: `of` is not worse by `margin` or more, in the direction that is better for the evaluation.
    kind: Kind = "difference"
    # The smallest difference that matters, in the metric's own unit. equivalence and non_inferiority need it; a
    # difference without it can be found, and can not be ruled out.
    margin: Margin | None = None
    # Whether it belongs to the primary family, whose p-values are corrected together, over all evaluations. All other
    # contrasts are called exploratory.
    primary: bool = False
    # Whether a condition that is kept by `only` brings the condition that it is compared with.
    brings: bool = False
    # Whether its conditions may be absent from the config, as after an override of the matrix. What there is of it is
    # then tested, and the rest is listed as left out. false: what does not exist is refused.
    optional: bool = False

    @classmethod
    def written_out(cls, data: Mapping[str, Json]) -> Mapping[str, Json]:
        """`evaluations: truthfulqa`."""
        chosen = data.get("evaluations")
        return {**data, "evaluations": [chosen]} if isinstance(chosen, str) else data

    @model_validator(mode="after")
    def _complete(self) -> Contrast:
        if self.kind != "difference" and self.margin is None:
            raise ValueError(f"kind: {self.kind} needs a margin, the smallest difference that matters")
        words = set(_PLACEHOLDER.findall(self.of + self.against))
        for word in self.where:
            if word not in words:
                raise ValueError(f"where: {word!r} occurs neither in of nor in against")
        return self


Expected = Literal["better", "worse", "higher", "lower", "holds"]


class Claim(Config):
    """A sentence that contrasts can support or contradict."""

    text: str  # The claim in words.
    # What has to be found, by contrast, in all of its conditions and evaluations. better, worse: of a difference, in
    # the direction that the evaluation has. higher, lower: of a difference. holds: equivalence or non-inferiority.
    needs: Annotated[dict[Name, Expected], Field(min_length=1)]


def check_claims(claims: Mapping[Name, Claim], contrasts: Mapping[Name, Contrast]) -> None:
    """Raises ValueError for a claim that names a contrast that does not exist, or cannot find what is expected."""
    for name, claim in claims.items():
        for needed, expected in claim.needs.items():
            if needed not in contrasts:
                raise ValueError(f"claim {name!r} names contrast {needed!r}: {nearest(needed, contrasts)}")
            if (contrasts[needed].kind == "difference") == (expected == "holds"):
                raise ValueError(
                    f"claim {name!r}: {needed!r} is of kind {contrasts[needed].kind}, where {expected!r} is not found: "
                    "a difference is better, worse, higher or lower, equivalence and non_inferiority hold"
                )


Share = Annotated[float, Field(ge=0, le=1)]


class PowerConfig(Config):
    """What `sgtr plan --power` assumes where nothing is published."""

    trials: PositiveInt = 400  # How many experiments are simulated for each primary contrast.
    # The standard deviation of a share between seeds. Where a standard error is published, it is computed from that.
    between_seeds: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    share: Share = 0.1  # The share of the condition that is compared with.
    # How far the other condition is from it. For equivalence and non-inferiority the two are taken to be the same.
    effect: Share = 0.1
    question: Annotated[float, Field(ge=0, le=0.9)] = 0.5  # The part of the answers that the question alone decides.
    # The part of the answers that the question and the condition decide together.
    question_and_condition: Annotated[float, Field(ge=0, le=0.1)] = 0.05


@dataclass(frozen=True)
class Planned:
    """One comparison that will be tested."""

    contrast: str  # the name of the contrast in the config
    of: str
    against: str
    evaluation: str
    metric: str
    kind: Kind
    margin: float | None
    primary: bool
    paired: bool  # whether a seed of one goes with the same seed of the other: both continue the same finetuned model
    better: Better
    of_trained: bool  # False: the base model, which is measured once
    against_trained: bool
    also: tuple[str, ...] = ()  # names of other contrasts that are the same here

    def to_json(self) -> ContrastEntry:
        """What `experiment.json` holds of it."""
        return cast(ContrastEntry, {**vars(self), "also": list(self.also)})


class _Pattern:
    """A name with words in braces, and what these stand for."""

    def __init__(self, text: str, words: Mapping[str, Sequence[str]], known: Sequence[str]) -> None:
        self._parts = _PLACEHOLDER.split(text)
        self._stands_for = {word: list(words.get(word, known)) for word in self._parts[1::2]}

    def matches(self, bound: Mapping[str, str], names: Mapping[str, Condition]) -> Iterator[tuple[str, dict[str, str]]]:
        """The conditions that exist, each with what the words stand for in it."""
        free = [word for word in self._stands_for if word not in bound]
        for values in product(*(self._stands_for[word] for word in free)):
            meant = {**bound, **dict(zip(free, values, strict=True))}
            if (name := self.filled(meant)) in names:
                yield name, meant

    def filled(self, meant: Mapping[str, str]) -> str:
        """The name with its words replaced, as far as they are known."""
        return "".join(
            meant.get(part, f"{{{part}}}") if i % 2 else part for i, part in enumerate(self._parts)
        )  # fmt: skip


def pairs(
    name: str, contrast: Contrast, conditions: Mapping[str, Condition], data: Sequence[str]
) -> list[tuple[str, str]]:
    """The conditions that a contrast compares. Raises ValueError for conditions that do not exist."""
    found, absent = _compared(name, contrast, conditions, data)
    if absent and not contrast.optional:
        sentence, wanted = absent[0]
        raise ValueError(f"{sentence}: {nearest(wanted, conditions)}" if wanted else sentence)
    return found


def without_absent(
    contrasts: Mapping[Name, Contrast],
    claims: Mapping[Name, Claim],
    unwritten: Collection[str],
    conditions: Mapping[str, Condition],
    data: Sequence[str],
) -> tuple[dict[Name, Contrast], dict[Name, Claim], list[str]]:
    """Without optional contrasts of no conditions and the claims that need one; a sentence for all that is left out.

    `unwritten` are names of contrasts that the matrix did not write, for it has no conditions of them.
    """
    kept = dict(contrasts)
    said = []
    for name, contrast in contrasts.items():
        if contrast.optional:
            found, absent = _compared(name, contrast, conditions, data)
            said += [sentence for sentence, _ in absent]
            if not found:
                del kept[name]
    gone = (set(contrasts) | set(unwritten)) - set(kept)
    stated = {name: claim for name, claim in claims.items() if not gone & set(claim.needs)}
    said += [
        f"claim {name!r} needs {', '.join(sorted(gone & set(claim.needs)))}, of which there are no conditions"
        for name, claim in claims.items()
        if name not in stated
    ]
    return kept, stated, [f"left out: {sentence}" for sentence in said]


def _compared(
    name: str, contrast: Contrast, conditions: Mapping[str, Condition], data: Sequence[str]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The pairs that there are, and a sentence for each that there is not, with the name that was looked for."""
    of, against = (_Pattern(text, contrast.where, data) for text in (contrast.of, contrast.against))
    found: dict[tuple[str, str], None] = {}
    absent = []
    some = False
    for one, meant in of.matches({}, conditions):
        some = True
        others = [other for other, _ in against.matches(meant, conditions)]
        if not others:
            wanted = against.filled(meant)
            absent.append((f"contrast {name!r} compares {one!r} with {wanted!r}, which is no condition", wanted))
        found.update({(one, other): None for other in others if other != one})
    if not some:
        absent.append((f"contrast {name!r}: {contrast.of!r} means no condition", contrast.of))
    elif not found and not absent:
        absent.append((f"contrast {name!r} compares conditions with nothing but themselves", ""))
    return list(found), absent


def planned(
    contrasts: Mapping[Name, Contrast],
    conditions: Mapping[str, Condition],
    data: Sequence[str],
    evaluations: Mapping[str, Facts],
) -> list[Planned]:
    """All comparisons, each once: what two contrasts name is primary if one of them says so.

    `evaluations` are those of the config by name. Raises ValueError for conditions, evaluations and metrics that do not
    exist.
    """
    found: dict[tuple[str, str, str, str, str, float | None], Planned] = {}
    for name, contrast in contrasts.items():
        measured = _measured(name, contrast, evaluations)
        for of, against in pairs(name, contrast, conditions, data):
            paired = _continue_the_same(conditions[of], conditions[against])
            for evaluation, metric, better in measured:
                key = (of, against, evaluation, metric, contrast.kind, contrast.margin)
                if (before := found.get(key)) is not None and not (contrast.primary and not before.primary):
                    found[key] = replace(before, also=(*before.also, name))
                else:
                    also = () if before is None else (before.contrast, *before.also)
                    found[key] = Planned(
                        name, of, against, evaluation, metric, contrast.kind, contrast.margin, contrast.primary,
                        paired, better, conditions[of].has_seeds, conditions[against].has_seeds,
                        also,
                    )  # fmt: skip
    return list(found.values())


def _measured(name: str, contrast: Contrast, evaluations: Mapping[str, Facts]) -> list[tuple[str, str, Better]]:
    """Evaluation, metric and what is better, for each evaluation that the contrast is about."""
    chosen = list(evaluations)
    for word in contrast.evaluations or ():
        if not any(fnmatchcase(evaluation, word) for evaluation in evaluations):
            raise ValueError(f"contrast {name!r} names evaluation {word!r}: {nearest(word, evaluations)}")
    if contrast.evaluations is not None:
        words = contrast.evaluations
        chosen = [one for one in evaluations if any(fnmatchcase(one, word) for word in words)]
    found = []
    for evaluation in chosen:
        facts = evaluations[evaluation]
        metric = contrast.metric or facts.metric
        # What somebody else's task reports is known when it has run.
        if facts is all_facts().get(facts.name) and metric not in (metrics := metrics_of(facts.name)):
            raise ValueError(
                f"contrast {name!r}: evaluation {evaluation!r} has no metric {metric!r}: {nearest(metric, metrics)}"
            )
        if contrast.kind == "non_inferiority":
            if metric != facts.metric:
                raise ValueError(
                    f"contrast {name!r}: non_inferiority is of an evaluation's primary metric, {facts.metric!r}"
                )
            if facts.better == "neither":
                raise ValueError(f"contrast {name!r}: neither more nor less of {evaluation!r} is better or inferior")
        found.append((evaluation, metric, facts.better if metric == facts.metric else "neither"))
    return found


def _continue_the_same(one: Condition, other: Condition) -> bool:
    """Whether both begin with the same finetuning, so that equal seeds have one model in common."""
    first, of_other = ([*([c.start] if c.start else []), *c.stages][:1] for c in (one, other))
    return one.has_seeds and other.has_seeds and (first, one.system) == (of_other, other.system)


def with_baselines(
    wanted: Sequence[str],
    contrasts: Mapping[Name, Contrast],
    conditions: Mapping[str, Condition],
    data: Sequence[str],
) -> list[str]:
    """`wanted`, and the conditions that these are to be compared with, in the order of `conditions`."""
    needed: dict[str, list[str]] = {}
    for name, contrast in contrasts.items():
        if contrast.brings:
            for of, against in pairs(name, contrast, conditions, data):
                needed.setdefault(of, []).append(against)
    kept, todo = set(wanted), list(wanted)
    while todo:
        new = [one for one in needed.get(todo.pop(), ()) if one not in kept]
        kept.update(new)
        todo += new
    return [name for name in conditions if name in kept]


def tested_line(contrasts: Sequence[Planned]) -> str:
    """How many comparisons will be tested, for `sgtr plan`."""
    primary = Counter(one.contrast for one in contrasts if one.primary)
    others = len(contrasts) - primary.total()
    if not primary:
        return f"contrasts: {others}, all exploratory"
    named = ", ".join(f"{name} {count}" for name, count in primary.items())
    return f"contrasts: {primary.total()} primary, corrected together ({named}), and {others} exploratory"
