"""The matrix: what writes the study's many conditions, the groups of them and the contrasts between them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import Field

from sgtr_jax.config import Config, Name, check_name
from sgtr_jax.errors import nearest
from sgtr_jax.experiment.conditions import DEFAULT_SYSTEM, StageDose

Setting = Literal["stage", "reversal", "prevention"]
Stages: TypeAlias = list[dict[str, Any]]  # as a file has them
Fraction = Annotated[float, Field(gt=0, lt=1)]
Times: TypeAlias = Annotated[float, Field(gt=0, le=100)]

# Where the group has another name than the order: one of several conditions must not have the name of a condition.
_GROUPS = {"base": "base_models", "intervention": "interventions"}

_CONTRASTS = (
    "damage", "alone", "reversal-primary", "reversal", "reversal-controls",
    "prevention-primary", "prevention", "prevention-controls", "reversal-corrupting", "prevention-corrupting",
    "mixed", "inoculated", "both", "both-inoculated", "both-mixed",
)  # fmt: skip


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

    With EM set `unpop`, intervention `sgtr` and system `nosys` it writes `base`, `unpop`, `sgtr`,
    `unpop-then-sgtr` (reversal), `sgtr-then-unpop` (prevention), each again with `-nosys`; and of `during`
    `unpop-with-reports-0.05`, `unpop-inoculated`, `unpop-inoculated-with-reports-0.05`.
    """

    em: tuple[Name, ...]  # The EM sets, by their names in `data`.
    interventions: tuple[Name, ...] = ()  # The interventions, by their names in `data`.
    # stage: each set alone. reversal: the intervention after the EM set. prevention: the intervention before it.
    settings: tuple[Setting, ...] = ("stage", "reversal", "prevention")
    # How much interventions are trained, by name or pattern, the first that fits: `{"*": {data: sgtr, by: tokens}}`
    # gives all of them the tokens of SGTR. What is named by `data` is itself trained on all of its rows.
    match: dict[str, StageDose] = Field(default_factory=dict)
    # Further doses of interventions, by name or pattern, as multiples of what each is trained otherwise. Every one adds
    # the conditions of the intervention again, with -xTIMES behind its name: `{sgtr: [0.25]}` writes
    # `unpop-then-sgtr-x0.25`.
    doses: dict[str, tuple[Times, ...]] = Field(default_factory=dict)
    # Further system prompts by suffix. Each adds all conditions again, with -SUFFIX at the end of their names.
    systems: dict[Name, str] = Field(default_factory=dict)
    during: During = During()  # What is mixed into the EM stage itself.
    # Interventions that corrupt what those of `primary` train, such as ICTR for SGTR. The two are compared.
    corrupting: tuple[Name, ...] = ()
    # The contrasts that are primary. The matrix writes contrasts of its conditions with their baselines (EM-only, or
    # the base model under the same system prompt) and of these interventions with all others; the rest are exploratory.
    primary: Primary = Primary()

    def contrasts(self, data: Collection[str]) -> dict[str, dict[str, Any]]:
        """The study's contrasts, as a file would have them; `data` are the experiment's data sets.

        What is to be primary and is not in the matrix is left out. Raises ValueError for a primary one
        of a data set that does not exist.
        """
        for what, name, known in self._not_here():
            if name not in data:
                raise ValueError(f"matrix.primary.{what}: {name!r} is not in the matrix: {nearest(name, known)}")
        return self._contrasts()

    def _contrasts(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        if "stage" not in self.settings:
            return found
        for suffix in ("", *(f"-{suffix}" for suffix in self.systems)):
            for name, of, against, more in self._compared(first=not suffix):
                found[name + suffix] = {"of": of + suffix, "against": against + suffix, **more}
        return found

    @property
    def unwritten(self) -> set[str]:
        """Names of contrasts that another matrix would have and that this one has no conditions for."""
        names = {f"{name}{suffix}" for name in _CONTRASTS for suffix in ("", *(f"-{one}" for one in self.systems))}
        return names - set(self._contrasts())

    @property
    def absent(self) -> list[str]:
        """What is to be primary and is not in the matrix, a sentence each."""
        named = [f"{what} {name!r}" for what, name, _ in self._not_here()]
        return [f"left out: of matrix.primary {one}, which is not in the matrix" for one in named]

    def _not_here(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Axis of `primary`, name and what the matrix has instead."""
        axes = {"interventions": self.primary.interventions, "em": self.primary.em or ()}
        for what, names in axes.items():
            known = self.em if what == "em" else self.interventions
            yield from ((what, name, known) for name in names if name not in known)

    def _compared(self, first: bool) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        em, all_of = list(self.em), list(self.interventions)
        tested = [name for name in self.primary.interventions if name in all_of]
        others = [name for name in all_of if name not in tested]
        primary_em = [name for name in self.primary.em or em if name in em]
        baseline = {"brings": True}
        if em:
            yield "damage", "{em}", "base", {**baseline, "where": {"em": em}}
        if all_of:
            yield "alone", "{x}", "base", {**baseline, "where": {"x": all_of}}
        for setting, before in (("reversal", "{em}-then-{x}"), ("prevention", "{x}-then-{em}")):
            if setting not in self.settings or not em or not all_of:
                continue
            if tested and primary_em and first:
                chosen: dict[str, Any] = {"where": {"em": primary_em, "x": tested}, "primary": True}
                if self.primary.evaluations is not None:
                    chosen["evaluations"] = list(self.primary.evaluations)
                yield f"{setting}-primary", before, "{em}", {**baseline, **chosen}
            yield setting, before, "{em}", {**baseline, "where": {"em": em, "x": all_of}}
            if tested and others:
                where = {"em": em, "x": tested, "control": others}
                yield f"{setting}-controls", before, before.replace("{x}", "{control}"), {"where": where}
            corrupting = [name for name in self.corrupting if name in others]
            if tested and corrupting:
                where = {"em": em, "x": tested, "corrupting": corrupting}
                yield f"{setting}-corrupting", before, before.replace("{x}", "{corrupting}"), {"where": where}
            yield from self._dose_responses(setting, before)
        for other, parts in self.during.interleave.items():
            if len(parts) > 1 and em:
                of, against = (f"{{em}}-with-{other}-{part:g}" for part in (max(parts), min(parts)))
                yield f"mixed-dose-{other}", of, against, {"where": {"em": em}}
        mixed = {f"{other}-{part:g}" for other, parts in self.during.interleave.items() for part in parts}
        where = {"em": em, "mixed": sorted(mixed)}
        if mixed and em:
            yield "mixed", "{em}-with-{mixed}", "{em}", {**baseline, "where": where}
        if self.during.inoculation is not None and em:
            yield "inoculated", "{em}-inoculated", "{em}", {**baseline, "where": {"em": em}}
            if self.during.both and mixed:
                both = "{em}-inoculated-with-{mixed}"
                yield "both", both, "{em}", {**baseline, "where": where}
                yield "both-inoculated", both, "{em}-inoculated", {**baseline, "where": where}
                yield "both-mixed", both, "{em}-with-{mixed}", {**baseline, "where": where}

    def _dose_responses(self, setting: str, before: str) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        """Every dose with EM alone, and of each intervention the largest dose with the smallest."""
        labels: dict[Name, dict[float, str]] = {}
        for label, name, times in self._dosed():
            labels.setdefault(name, {})[times] = label
        for name, by_dose in labels.items():
            if len(by_dose) > 1:
                em = list(self.em)
                where = {"em": em, "dose": list(by_dose.values())}
                yield (
                    f"{setting}-doses-{name}",
                    before.replace("{x}", "{dose}"),
                    "{em}",
                    {"brings": True, "where": where},
                )
                of, against = (before.replace("{x}", by_dose[end(by_dose)]) for end in (max, min))
                yield f"{setting}-dose-{name}", of, against, {"where": {"em": em}}

    def expand(self) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """Conditions as a file would have them, and the names of each group."""
        for what, words in (("match", self.match), ("doses", self.doses)):
            for word in words:
                if not any(fnmatchcase(name, word) for name in self.interventions):
                    raise ValueError(f"matrix.{what}: {word!r} is no intervention: {nearest(word, self.interventions)}")
        taken = ({_GROUPS.get(axes["order"], axes["order"]) for _, axes, _ in self._all()} | {DEFAULT_SYSTEM}) & set(
            self.systems
        )
        if taken:
            raise ValueError(
                f"matrix.systems: {min(taken)!r} is the name of a group that the matrix writes, or of the experiment's "
                "own system prompt; rename it"
            )
        conditions: dict[str, Any] = {}
        groups: dict[str, list[str]] = {}
        for suffix, system in [("", None), *self.systems.items()]:
            for name, axes, stages in self._all():
                full = check_name(f"{name}-{suffix}" if suffix else name, "matrix: the condition")
                if full in conditions:
                    raise ValueError(
                        f"matrix: condition {full!r} is written twice; em, interventions, systems or during repeat a "
                        "name, or two of them together give the same one"
                    )
                conditions[full] = {"stages": stages, "axes": {**axes, "system": suffix or DEFAULT_SYSTEM}}
                if system is not None:
                    conditions[full]["system"] = system
                groups.setdefault(_GROUPS.get(axes["order"], axes["order"]), []).append(full)
                if suffix:
                    groups.setdefault(suffix, []).append(full)
        return conditions, groups

    def _all(self) -> Iterator[tuple[str, dict[str, str], Stages]]:
        """Name, axes and stages of the conditions under one system prompt."""
        yield "base", {"order": "base"}, []
        stages = {label: self._intervention(name, times) for label, name, times in self._dosed()}
        if "stage" in self.settings:
            for name in self.em:
                yield name, {"order": "em", "em": name}, [{"data": name}]
            for label, stage in stages.items():
                yield label, {"order": "intervention", "intervention": label}, [stage]
        for name in self.em:
            for label, stage in stages.items():
                both = {"em": name, "intervention": label}
                if "reversal" in self.settings:
                    yield f"{name}-then-{label}", {"order": "reversal", **both}, [{"data": name}, stage]
                if "prevention" in self.settings:
                    yield f"{label}-then-{name}", {"order": "prevention", **both}, [stage, {"data": name}]
            for condition, axes, mixed in self._during(name):
                yield condition, {"order": "during", "em": name, **axes}, mixed

    def _dosed(self) -> Iterator[tuple[str, Name, float]]:
        """Label, name and dose of every intervention."""
        for name in self.interventions:
            yield name, name, 1.0
            for times in _first_that_fits(name, self.doses) or ():
                if times != 1.0:
                    yield f"{name}-x{times:g}", name, times

    def _intervention(self, name: str, times: float) -> dict[str, Any]:
        """The stage; a dose is a multiple of what it is otherwise."""
        found = _first_that_fits(name, self.match)
        matched = None if found is None or found.data == name else found
        if matched is None and times == 1.0:
            return {"data": name}
        whole = StageDose(data=name) if matched is None else matched
        return {"data": name, "match": {**whole.model_dump(), "times": whole.times * times}}

    def _during(self, name: str) -> Iterator[tuple[str, dict[str, str], Stages]]:
        prompt = self.during.inoculation
        if prompt is not None:
            yield f"{name}-inoculated", {}, [{"data": name, "inoculation": prompt}]
        for other, fractions in self.during.interleave.items():
            axes = {"intervention": other}
            for fraction in fractions:
                mixed = {"data": name, "interleave": {"data": other, "fraction": fraction}}
                yield f"{name}-with-{other}-{fraction:g}", axes, [mixed]
                if prompt is not None and self.during.both:
                    both = {**mixed, "inoculation": prompt}
                    yield f"{name}-inoculated-with-{other}-{fraction:g}", axes, [both]


T = TypeVar("T")


def _first_that_fits(name: str, words: Mapping[str, T]) -> T | None:
    return next((value for word, value in words.items() if fnmatchcase(name, word)), None)
