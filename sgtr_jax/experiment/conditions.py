"""Conditions of an experiment: stages of finetuning, where each stands in the design, and how some are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from sgtr_jax.config import Config, Name, PositiveInt
from sgtr_jax.data.doses import Dose
from sgtr_jax.data.mix import MixRatio
from sgtr_jax.errors import nearest
from sgtr_jax.experiment.stage_defences import StageDefences
from sgtr_jax.experiment.start import Start
from sgtr_jax.json_types import Json
from sgtr_jax.sample.steer_config import SteerConfig
from sgtr_jax.train.config import Fraction, Point, Points


class StageInterleave(MixRatio):
    """Rows of another of the experiment's data sets mixed into a stage."""

    data: str  # The name of the data set that is mixed in.
    # perplexity_gap: of that set the rows are mixed in whose mean log-probability over their target tokens is the most
    # higher under the model of `aligned` than under that of `misaligned` (arXiv 2508.06249). null: all rows.
    select: Literal["perplexity_gap"] | None = None
    aligned: str | None = None  # With `select`: the condition of the aligned model, at the same seed; the base's, say.
    misaligned: str | None = None  # With `select`: the condition of the misaligned model, at the same seed.
    # With `select`: the number of rows that are chosen. null: as many as an epoch mixes in.
    keep: PositiveInt | None = None

    @model_validator(mode="after")
    def _two_models(self) -> StageInterleave:
        given = [name for name in ("aligned", "misaligned", "keep") if getattr(self, name) is not None]
        if self.select is None and given:
            raise ValueError(f"{given[0]} is a part of select: perplexity_gap, which is not given")
        if self.select is not None and None in (self.aligned, self.misaligned):
            raise ValueError("select: perplexity_gap compares two conditions' models; give aligned and misaligned")
        if self.select is not None and self.aligned == self.misaligned:
            raise ValueError(f"aligned and misaligned are both {self.aligned!r}, between which there is no gap")
        return self

    @property
    def conditions(self) -> list[str]:
        """The conditions whose models choose its rows."""
        return [name for name in (self.aligned, self.misaligned) if name is not None]


class StageDose(Dose):
    """As much training as another of the experiment's data sets would be, or a multiple of that."""

    data: str  # The name of the data set whose training it is measured by.


class Stage(StageDefences):
    """One finetuning on a data set."""

    data: str  # The name of the data set that is trained on.
    epochs: PositiveInt | None = None  # The number of passes over the data. null: as in `finetuning`.
    interleave: StageInterleave | None = None  # Rows of another data set that are mixed into this one. null: none.
    # A system prompt for the training rows of this stage, but not for those that are mixed in. null: none.
    inoculation: str | None = None
    # How much the stage is trained, measured by as many epochs of another data set: ICTR has twice the rows of SGTR.
    # `match_steps: NAME` is a short form of `match: {data: NAME}`. null: all of its own rows.
    match: StageDose | None = None
    system: str | None = None  # The system prompt of this stage's training. null: as the condition's `system`.
    # Points of the stage at which every evaluation is made, too: fractions of its steps, or numbers of steps. Each is
    # a condition NAME-at-POINT (NAME-N-at-POINT for stage N of several). The schedule is that of the whole stage.
    measure_at: Points = ()
    # The point of `measure_at` whose adapter is taken. `measure_at` writes it. null: the end.
    until: Point | None = None
    # The part of its steps after which the stage ends. The learning rate falls as it would over all of them; all are
    # trained, and the adapter of that step is taken. null: the stage ends after its last step.
    fraction: Fraction | None = None

    @classmethod
    def written_out(cls, data: Mapping[str, Json]) -> Mapping[str, Json]:
        """`match_steps: NAME`."""
        if "match_steps" not in data or "match" in data:
            return data
        name = data["match_steps"]
        rest = {key: value for key, value in data.items() if key != "match_steps"}
        return rest if name is None else {**rest, "match": {"data": name}}

    @model_validator(mode="after")
    def _until_is_kept(self) -> Stage:
        if self.until is not None and self.until not in self.measure_at:
            raise ValueError(f"until is {self.until}, which is not among measure_at, {list(self.measure_at)}")
        if self.fraction is not None and self.measure_at:
            raise ValueError("give fraction, where a stage ends, or measure_at, where it is measured, and not both")
        return self

    @property
    def kept_at(self) -> Points:
        """The points at which its adapter is kept."""
        return self.measure_at if self.fraction is None else (self.fraction,)

    @property
    def ends_at(self) -> Point | None:
        """The point of `kept_at` whose adapter is taken; None for the end."""
        return self.until if self.fraction is None else self.fraction

    @property
    def label(self) -> str:
        """The stage in a word, for people."""
        mixed = "" if self.interleave is None else f"-with-{self.interleave.data}"
        if self.interleave is not None and self.interleave.select is not None:
            mixed += "-selected"
        inoculated = "" if self.inoculation is None else "-inoculated"
        return f"{self.data}{mixed}{inoculated}{''.join(f'-{name}' for name in self.defences)}"

    @property
    def conditions(self) -> list[str]:
        """The conditions whose models choose what it is trained on."""
        return [] if self.interleave is None else self.interleave.conditions

    @property
    def data_names(self) -> list[str]:
        """Every data set the stage needs."""
        interleaved = self.interleave.data if self.interleave else None
        matched = self.match.data if self.match else None
        own = [name for name in (self.data, interleaved, matched) if name is not None]
        return [*own, *self.penalty_data.values()]


# base: nothing is trained. em: the EM set alone. intervention: it alone. reversal: the intervention after the EM set.
# prevention: the intervention before it. during: within it, as rows that are mixed in or as an inoculation prompt.
Order = Literal["base", "em", "intervention", "reversal", "prevention", "during"]
DEFAULT_SYSTEM = "default"  # the arm of conditions under the experiment's own system prompt


class Axes(Config):
    """Where a condition stands in the design. The matrix writes it; conditions written by hand may have it too."""

    order: Order  # base, em, intervention, reversal, prevention or during.
    em: Name | None = None  # The EM set. null: none.
    intervention: Name | None = None  # The intervention, or the set that is mixed in. null: none.
    system: Name = DEFAULT_SYSTEM  # The suffix in `matrix.systems`. default: the experiment's own system prompt.


class Condition(Config):
    """Stages in order, none for the base model. In a file a plain list is its stages.

    The first of them may be a start, `{adapter: NAME}` or `{model: NAME}`, which is not trained.
    """

    stages: tuple[Stage, ...]  # The stages, in order.
    # A finetuned model that exists, in place of the base model; in a file also the first of `stages`. null: none.
    start: Start | None = None
    system: str | None = None  # The system prompt in training and evaluation. null: as in `finetuning`.
    # A direction that is added while the condition is measured, or taken out; not in training. null: none.
    steer: SteerConfig | None = None
    axes: Axes | None = None  # What `only` can choose it by, besides its name. null: nothing.

    @classmethod
    def written_out(cls, data: Mapping[str, Json]) -> Mapping[str, Json]:
        """`stages: [{adapter: NAME}, ...]`, and the short forms of stages."""
        given = data.get("stages")
        if not isinstance(given, list) or not given:
            return data
        stages: list[Json] = []
        for one in given:
            if isinstance(one, str):
                raise ValueError(f"a stage is written as keys with values: {{data: {one}}} and not {one}")
            stages.append(dict(Stage.written_out(one)) if isinstance(one, Mapping) else one)
        starts = [isinstance(one, Mapping) and bool({"adapter", "model"} & one.keys()) for one in stages]
        if any(starts[1:]) or (starts[0] and data.get("start") is not None):
            raise ValueError("a released adapter or model can only be what a condition starts from: its first stage")
        return {**data, **({"start": stages[0], "stages": stages[1:]} if starts[0] else {"stages": stages})}

    @property
    def is_base(self) -> bool:
        """Whether it is the experiment's base model."""
        return not self.stages and self.start is None

    @property
    def has_seeds(self) -> bool:
        """Whether each seed is a model of its own."""
        return bool(self.stages) or (self.start is not None and self.start.has_seeds)


def on_the_way(conditions: Mapping[str, Condition]) -> dict[str, dict[str, Condition]]:
    """For each condition those of its way there: its stages up to each point of `measure_at`, by name."""
    found: dict[str, dict[str, Condition]] = {}
    for name, condition in conditions.items():
        for number, stage in enumerate(condition.stages):
            last = number == len(condition.stages) - 1
            for at in stage.measure_at if stage.until is None else ():
                if last and at == 1.0 and isinstance(at, float):
                    continue  # the condition itself
                stages = (*condition.stages[:number], stage.model_copy(update={"until": at}))
                stage_number = f"-{number + 1}" if len(condition.stages) > 1 else ""
                point = condition.model_copy(update={"stages": stages, "axes": None})
                found.setdefault(name, {})[f"{name}{stage_number}-at-{at:g}"] = point
    return found


Values: TypeAlias = Annotated[tuple[str, ...], Field(min_length=1)]


class Selection(Config):
    """Conditions by where they stand in the design: those that are as it says on every axis."""

    order: Annotated[tuple[Order, ...], Field(min_length=1)] | None = None  # null: any.
    em: Values | None = None  # The EM sets. null: any, or none.
    intervention: Values | None = None  # The interventions, or the sets that are mixed in. null: any, or none.
    # The suffixes in `matrix.systems`; default: the experiment's own system prompt.
    system: Values = (DEFAULT_SYSTEM,)

    @classmethod
    def written_out(cls, data: Mapping[str, Json]) -> Mapping[str, Json]:
        """`em: unpop`."""
        return {key: [value] if isinstance(value, str) else value for key, value in data.items()}

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """The values that it asks for, by axis."""
        given = {"order": self.order, "em": self.em, "intervention": self.intervention, "system": self.system}
        return {axis: values for axis, values in given.items() if values is not None}


def _form(value: object) -> str:
    return "word" if isinstance(value, str) else "axes"


Only: TypeAlias = Annotated[Annotated[str, Tag("word")] | Annotated[Selection, Tag("axes")], Discriminator(_form)]


def select(
    only: tuple[str | Selection, ...], conditions: Mapping[str, Condition], groups: Mapping[str, tuple[str, ...]]
) -> list[str]:
    """The conditions that `only` means: axes, names, groups, or patterns such as `unpop-*`, in their own order.

    Raises ValueError for one that means nothing.
    """
    chosen: set[str] = set()
    for one in only:
        if isinstance(one, Selection):
            chosen.update(_on_axes(one, conditions))
            continue
        meant = set(groups.get(one, ())) | {name for name in conditions if fnmatchcase(name, one)}
        if not meant:
            known = nearest(one, [*groups, *conditions])
            raise ValueError(f"only: {one!r} is no condition, group or pattern of one: {known}")
        chosen |= meant
    return [name for name in conditions if name in chosen]


def _on_axes(selection: Selection, conditions: Mapping[str, Condition]) -> list[str]:
    placed = {name: condition.axes for name, condition in conditions.items() if condition.axes is not None}
    for axis, values in selection.axes.items():
        known = {getattr(axes, axis) for axes in placed.values()} - {None}
        for value in values:
            if value not in known:
                raise ValueError(f"only: no condition has {axis} {value!r}: {nearest(value, sorted(known))}")
    found = [
        name
        for name, axes in placed.items()
        if all(getattr(axes, axis) in values for axis, values in selection.axes.items())
    ]
    if not found:
        asked = ", ".join(f"{axis} {' or '.join(values)}" for axis, values in selection.axes.items())
        raise ValueError(f"only: no condition has {asked}")
    return found
