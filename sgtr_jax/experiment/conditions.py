"""Conditions of an experiment: stages of finetuning, and the matrix that writes the study's many of them."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import Field

from sgtr_jax.config import Config, Name, PositiveInt, check_name
from sgtr_jax.data.mix import MixRatio
from sgtr_jax.errors import nearest


class StageInterleave(MixRatio):
    """Rows of another of the experiment's data sets mixed into a stage."""

    data: str  # The name of the data set that is mixed in.


class Stage(Config):
    """One finetuning on a data set."""

    data: str  # The name of the data set that is trained on.
    epochs: PositiveInt | None = None  # The number of passes over the data. null: as in `finetuning`.
    interleave: StageInterleave | None = None  # Rows of another data set that are mixed into this one. null: none.
    # A system prompt for the training rows of this stage, but not for those that are mixed in. null: none.
    inoculation: str | None = None
    # The stage takes as many optimizer steps as this data set would. ICTR, for example, has twice the rows of SGTR.
    match_steps: str | None = None
    system: str | None = None  # The system prompt of this stage's training. null: as the condition's `system`.

    @property
    def label(self) -> str:
        """The stage in a word, for people."""
        mixed = "" if self.interleave is None else f"-with-{self.interleave.data}"
        return f"{self.data}{mixed}{'' if self.inoculation is None else '-inoculated'}"

    @property
    def data_names(self) -> list[str]:
        """Every data set the stage needs."""
        interleaved = self.interleave.data if self.interleave else None
        return [name for name in (self.data, interleaved, self.match_steps) if name is not None]


class Condition(Config):
    """Stages in order, none for the base model. In a file a plain list is its stages."""

    stages: tuple[Stage, ...]  # The stages, in order.
    system: str | None = None  # The system prompt in training and evaluation. null: as in `finetuning`.


Setting = Literal["stage", "reversal", "prevention"]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class During(Config):
    """What is mixed into the EM stage itself."""

    # Data sets that are mixed into the EM set, each with a list of shares of all rows. Every share is one condition.
    interleave: dict[Name, tuple[Fraction, ...]] = Field(default_factory=dict)
    # A system prompt for the EM rows, in training only. It adds one condition for each EM set. null: none.
    inoculation: str | None = None
    both: bool = False  # Whether there are also conditions with the inoculation prompt and each of the shares.


class Primary(Config):
    """Which of the contrasts that the matrix writes are the primary family."""

    # The interventions whose reversal and prevention are primary, and which are compared with all other interventions.
    interventions: tuple[Name, ...] = ()
    em: tuple[Name, ...] | None = None  # The EM sets for which they are. null: all of the matrix.
    evaluations: tuple[str, ...] | None = None  # The evaluations, by name or pattern. null: all of the experiment.


class Matrix(Config):
    """EM sets x interventions x settings x system prompts, as conditions and as groups of them.

    With EM set `unpop`, intervention `sgtr` and system `nosys` it writes `base_condition`, `unpop`, `sgtr`,
    `unpop-then-sgtr` (reversal), `sgtr-then-unpop` (prevention), each again with `-nosys`; and of `during`
    `unpop-with-reports-0.05`, `unpop-inoculated`, `unpop-inoculated-with-reports-0.05`.
    """

    em: tuple[Name, ...]  # The EM sets, by their names in `data`.
    interventions: tuple[Name, ...] = ()  # The interventions, by their names in `data`.
    # stage: each set alone. reversal: the intervention after the EM set. prevention: the intervention before it.
    settings: tuple[Setting, ...] = ("stage", "reversal", "prevention")
    # For an intervention, the data set whose number of optimizer steps it takes.
    match_steps: dict[str, str] = Field(default_factory=dict)
    # Further system prompts by suffix. Each adds all conditions again, with -SUFFIX at the end of their names.
    systems: dict[Name, str] = Field(default_factory=dict)
    during: During = During()  # What is mixed into the EM stage itself.
    # The contrasts that are primary. The matrix writes contrasts of its conditions with their baselines (EM-only, or
    # the base model under the same system prompt) and of these interventions with all others; the rest are exploratory.
    primary: Primary = Primary()

    def contrasts(self) -> dict[str, dict[str, Any]]:
        """The study's contrasts, as a file would have them. Raises ValueError for a primary one of nothing."""
        for name, known in [(one, self.interventions) for one in self.primary.interventions] + [
            (one, self.em) for one in self.primary.em or ()
        ]:
            if name not in known:
                raise ValueError(f"matrix.primary: {name!r} is not in the matrix: {nearest(name, known)}")
        if "stage" not in self.settings:
            return {}
        found: dict[str, dict[str, Any]] = {}
        for suffix in ("", *(f"-{suffix}" for suffix in self.systems)):
            for name, of, against, more in self._compared(first=not suffix):
                found[name + suffix] = {"of": of + suffix, "against": against + suffix, **more}
        return found

    def _compared(self, first: bool) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        em, all_of = list(self.em), list(self.interventions)
        tested = [name for name in self.primary.interventions if name in all_of]
        others = [name for name in all_of if name not in tested]
        baseline = {"brings": True}
        if em:
            yield "damage", "{em}", "untouched", {**baseline, "where": {"em": em}}
        if all_of:
            yield "alone", "{x}", "untouched", {**baseline, "where": {"x": all_of}}
        for setting, before in (("reversal", "{em}-then-{x}"), ("prevention", "{x}-then-{em}")):
            if setting not in self.settings or not em or not all_of:
                continue
            if tested and first:
                chosen: dict[str, Any] = {"where": {"em": list(self.primary.em or em), "x": tested}, "primary": True}
                if self.primary.evaluations is not None:
                    chosen["evaluations"] = list(self.primary.evaluations)
                yield f"{setting}-primary", before, "{em}", {**baseline, **chosen}
            yield setting, before, "{em}", {**baseline, "where": {"em": em, "x": all_of}}
            if tested and others:
                where = {"em": em, "x": tested, "control": others}
                yield f"{setting}-controls", before, before.replace("{x}", "{control}"), {"where": where}
        mixed = {f"{other}-{part:g}" for other, parts in self.during.interleave.items() for part in parts}
        where = {"em": em, "mixed": sorted(mixed)}
        if mixed and em:
            yield "mixed", "{em}-with-{mixed}", "{em}", {**baseline, "where": where}
        if self.during.inoculation is not None and em:
            yield "inoculated", "{em}-inoculated", "{em}", {**baseline, "where": {"em": em}}
            if self.during.both and mixed:
                both = "{em}-inoculated-with-{mixed}"
                yield "both", both, "{em}", {**baseline, "where": where}
                yield "both-inoculated", both, "{em}-inoculated", {"where": where}
                yield "both-mixed", both, "{em}-with-{mixed}", {"where": where}

    def expand(self) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """Conditions as a file would have them, and the names of each group."""
        for name in self.match_steps:
            if name not in self.interventions:
                raise ValueError(
                    f"matrix.match_steps: {name!r} is no intervention: {nearest(name, self.interventions)}"
                )
        taken = {group for group, _, _ in self._all()} & set(self.systems)
        if taken:
            raise ValueError(f"matrix.systems: {min(taken)!r} is the name of a group that the matrix writes; rename it")
        conditions: dict[str, Any] = {}
        groups: dict[str, list[str]] = {}
        for suffix, system in [("", None), *self.systems.items()]:
            for group, name, stages in self._all():
                full = check_name(f"{name}-{suffix}" if suffix else name, "matrix: the condition")
                if full in conditions:
                    raise ValueError(
                        f"matrix: condition {full!r} is written twice; em, interventions, systems or during repeat a "
                        "name, or two of them together give the same one"
                    )
                conditions[full] = {"stages": stages, **({} if system is None else {"system": system})}
                groups.setdefault(group, []).append(full)
                if suffix:
                    groups.setdefault(suffix, []).append(full)
        return conditions, groups

    def _all(self) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
        yield "base", "untouched", []
        if "stage" in self.settings:
            for name in self.em:
                yield "em", name, [{"data": name}]
            for name in self.interventions:
                yield "interventions", name, [self._intervention(name)]
        for name in self.em:
            for other in self.interventions:
                if "reversal" in self.settings:
                    yield "reversal", f"{name}-then-{other}", [{"data": name}, self._intervention(other)]
                if "prevention" in self.settings:
                    yield "prevention", f"{other}-then-{name}", [self._intervention(other), {"data": name}]
            yield from self._during(name)

    def _intervention(self, name: str) -> dict[str, Any]:
        matched = self.match_steps.get(name)
        return {"data": name, **({} if matched is None else {"match_steps": matched})}

    def _during(self, name: str) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
        prompt = self.during.inoculation
        if prompt is not None:
            yield "during", f"{name}-inoculated", [{"data": name, "inoculation": prompt}]
        for other, fractions in self.during.interleave.items():
            for fraction in fractions:
                mixed = {"data": name, "interleave": {"data": other, "fraction": fraction}}
                yield "during", f"{name}-with-{other}-{fraction:g}", [mixed]
                if prompt is not None and self.during.both:
                    yield "during", f"{name}-inoculated-with-{other}-{fraction:g}", [{**mixed, "inoculation": prompt}]


def select(only: tuple[str, ...], names: list[str], groups: dict[str, tuple[str, ...]]) -> list[str]:
    """The conditions that `only` means: names, groups, or patterns such as `unpop-*`, in the order of `names`.

    Raises ValueError for one that means nothing.
    """
    chosen: set[str] = set()
    for word in only:
        meant = set(groups.get(word, ())) | {name for name in names if fnmatchcase(name, word)}
        if not meant:
            known = nearest(word, [*groups, *names])
            raise ValueError(f"only: {word!r} is no condition, group or pattern of one: {known}")
        chosen |= meant
    return [name for name in names if name in chosen]
