"""The experiment file: one model, data sets, conditions as stages of finetuning, seeds, evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union

from pydantic import Discriminator, Field, PrivateAttr, Tag, ValidationError, model_validator

from sgtr_eval.facts import Facts
from sgtr_jax.buckets import is_address
from sgtr_jax.config import Config, Name, Seed, check_distinct
from sgtr_jax.data.build import Stimuli
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import nearest
from sgtr_jax.experiment.asked import api_model_name
from sgtr_jax.experiment.conditions import Condition, Only, Selection, on_the_way, select
from sgtr_jax.experiment.contrasts import (
    Claim,
    Contrast,
    Planned,
    PowerConfig,
    check_claims,
    planned,
    with_baselines,
    without_absent,
)
from sgtr_jax.experiment.data_node import DataConfig, data_configs
from sgtr_jax.experiment.evaluation_node import EvaluationConfig, evaluation_configs
from sgtr_jax.experiment.made_from import Parts
from sgtr_jax.experiment.matrix import Matrix
from sgtr_jax.experiment.nodes.direction import DirectionConfig
from sgtr_jax.experiment.services import ApiConfig, JudgeConfig, ReportConfig
from sgtr_jax.experiment.several_judges import each_judge_its_own
from sgtr_jax.train.config import DEFENCES, TrainConfig

T = TypeVar("T")
_MOST_SEEDS = 1000


def _config_of(value: object) -> str:
    """Which of the evaluations' configs a value in a file is of."""
    kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
    return str(kind) if kind in evaluation_configs() else "by name"


if TYPE_CHECKING:  # the types that the files in `nodes/` make known
    Data = DataConfig
    Evaluation = EvaluationConfig
else:
    from sgtr_jax.experiment.nodes.task_evaluation import TaskEval

    _TAGGED = [Annotated[config, Tag(kind)] for kind, config in evaluation_configs().items()]
    Data = Annotated[Union[tuple(data_configs())], Field(discriminator="kind")]  # noqa: UP007
    Evaluation = Annotated[Union[(*_TAGGED, Annotated[TaskEval, Tag("by name")])], Discriminator(_config_of)]


def _condition(name: str, given: Any) -> Any:
    """A condition of a file with its short forms written out."""
    if not isinstance(given, list | Mapping):
        return given
    try:
        return Condition.written_out({"stages": given} if isinstance(given, list) else given)
    except ValueError as error:
        raise ValueError(f"condition {name!r}: {error}") from None


def _add(what: str, written: dict[str, T], own: Mapping[str, T]) -> None:
    """Add what was written by hand to what the matrix wrote. Raises ValueError if it would replace something."""
    for name, one in own.items():
        if written.setdefault(name, one) != one:
            raise ValueError(f"{what} {name!r} is also written by the matrix, as another one; rename it")


class ExperimentConfig(Config):
    """A whole experiment. `conditions` maps a name to its stages; the base model has none.

    `matrix` writes conditions and groups of them; those written out by hand come on top. `only` keeps some conditions,
    with what they are to be compared with, and `measure` some evaluations: what is left out is neither made nor
    reported, and what is made is the same as in the whole.
    """

    # The name of the run. Letters, digits, dots, dashes and underscores.
    name: Name
    # The base model: a hub id, a folder, a gs:// address, nano (the demo's), or openai/NAME for a model behind an API.
    model: str
    # The run folder. null: runs/NAME. gs://BUCKET/FOLDER: the run works in runs/NAME, and this address is its `mirror`.
    out: str | None = None
    # gs://BUCKET/FOLDER: finished artifacts and results are copied there, and fetched from there when they are missing
    # here.
    mirror: str | None = None
    # The seeds of the runs. A single number n means 0 to n - 1.
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    # How adapters are trained. For models behind an API only `epochs`, `system` and `inoculation` apply.
    finetuning: TrainConfig = TrainConfig()
    # The mesh for sampling. null: all devices; weights are split over as few devices (`tensor`) as hold them, and the
    # other devices take rows of their own.
    sampling_mesh: MeshConfig | None = None
    # The texts for evaluations and pairs that do not choose themselves: builtin ones or the published ones. null:
    # published for evaluations, builtin for pairs.
    stimuli: Stimuli | None = None
    data: dict[Name, Data]  # The data sets of the experiment, by a name of your choice.
    # Directions of the residual stream, by a name of your choice, that stages are steered along.
    directions: dict[Name, DirectionConfig] = Field(default_factory=dict)
    matrix: Matrix | None = None  # Conditions that are written in bulk.
    # The conditions by name, each a list of stages; [] is the base model. They are added to those of the matrix.
    conditions: dict[Name, Condition] = Field(default_factory=dict)
    # Names for several conditions, for `only` and for the figures. They are added to those of the matrix.
    groups: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    # What is compared with what, by a name of your choice. They are added to those of the matrix. All are tested whose
    # conditions and evaluations `only` and `measure` keep.
    contrasts: dict[Name, Contrast] = Field(default_factory=dict)
    # Claims by a name of your choice, each with the contrasts that it stands on. The report says first which of them
    # the run supports. Claims none of whose contrasts is kept by `only` and `measure` are left out.
    claims: dict[Name, Claim] = Field(default_factory=dict)
    power_assumptions: PowerConfig = PowerConfig()  # What `sgtr plan --power` assumes.
    # The conditions that are made and reported, and the conditions that their contrasts bring: by where they stand in
    # the matrix, such as `{em: unpop, intervention: [sgtr, mmlu], order: reversal}`, or by names, groups and patterns
    # such as `unpop-*`. null: all of them.
    only: Annotated[tuple[Only, ...], Field(min_length=1)] | None = None
    # The evaluations by a name of your choice. Every condition is measured by each of them.
    evaluations: Annotated[dict[Name, Evaluation], Field(min_length=1)]
    # The evaluations that are run and reported, by name. null: all of them.
    measure: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    # Data sets that may hold questions or articles of evaluations: names or patterns, each with a list of evaluations
    # or patterns of them. What two share is always counted. More than chance explains is refused unless it stands here.
    may_share: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    judge: JudgeConfig = JudgeConfig()  # The model that judges answers.
    api: ApiConfig = ApiConfig()  # Settings for a model behind an API.
    report: ReportConfig = ReportConfig()  # When the report is written.
    # The model of `report/published.yaml` whose published numbers stand beside the measured ones. null: none.
    published: str | None = None
    _left_out: tuple[str, ...] = PrivateAttr(())

    @classmethod
    def written_out(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """`seeds: 3`, `only: reversal`, `judge: open` and conditions that are plain lists of stages."""
        full = dict(data)
        for key in ("only", "measure"):
            if isinstance(full.get(key), str | Mapping):
                full[key] = [full[key]]
        full = each_judge_its_own(full)
        if isinstance(full.get("judge"), str):
            full["judge"] = {"model": full["judge"]}
        if isinstance(full.get("seeds"), int) and not isinstance(full["seeds"], bool):
            if full["seeds"] > _MOST_SEEDS:
                raise ValueError(f"seeds: {full['seeds']} means so many runs of each condition; at most {_MOST_SEEDS}")
            full["seeds"] = list(range(full["seeds"]))
        if isinstance(full.get("only"), list):
            full["only"] = [Selection.written_out(one) if isinstance(one, Mapping) else one for one in full["only"]]
        contrasts = full.get("contrasts")
        if isinstance(contrasts, Mapping):
            full["contrasts"] = {
                name: Contrast.written_out(one) if isinstance(one, Mapping) else one for name, one in contrasts.items()
            }
        conditions = full.get("conditions")
        if isinstance(conditions, Mapping):
            full["conditions"] = {name: _condition(name, one) for name, one in conditions.items()}
        return full

    @model_validator(mode="after")
    def _expand(self) -> ExperimentConfig:
        conditions: dict[Name, Condition] = {}
        groups: dict[Name, tuple[str, ...]] = {}
        contrasts: dict[Name, Contrast] = {}
        if self.matrix is not None:
            written, grouped = self.matrix.expand()
            conditions.update({name: Condition.model_validate_json(json.dumps(one)) for name, one in written.items()})
            groups.update({name: tuple(members) for name, members in grouped.items()})
            of_matrix = {name: json.dumps(one) for name, one in self.matrix.contrasts(self.data).items()}
            contrasts.update({name: Contrast.model_validate_json(one) for name, one in of_matrix.items()})
        # One that is written out again, without axes, is that of the matrix.
        by_hand = {
            name: one.model_copy(update={"axes": conditions[name].axes}) if name in conditions and not one.axes else one
            for name, one in self.conditions.items()
        }
        _add("condition", conditions, by_hand)
        for points in on_the_way(conditions).values():
            _add("condition", conditions, points)
        _add("group", groups, self.groups)
        _add("contrast", contrasts, self.contrasts)
        absent = [] if self.matrix is None else self.matrix.absent
        unwritten = set() if self.matrix is None else self.matrix.unwritten
        contrasts, claims, left_out = without_absent(
            contrasts, self.claims, unwritten - set(contrasts), conditions, list(self.data)
        )
        if not conditions:
            raise ValueError("no conditions: give conditions, or a matrix that writes them")
        for group, members in groups.items():
            for member in members:
                if member not in conditions:
                    raise ValueError(f"group {group!r} names condition {member!r}: {nearest(member, conditions)}")
        for what, names in (("conditions", conditions), ("groups", groups), ("data", self.data),
                            ("evaluations", self.evaluations)):  # fmt: skip
            check_distinct(names, what)
        for group, members in groups.items():
            if group in conditions and members != (group,):
                raise ValueError(
                    f"group {group!r} has the name of a condition and other members than it, so that only: {group} "
                    "would mean both; rename one"
                )
        # Filled in once, so that what is stored of a run says all of it.
        object.__setattr__(self, "conditions", conditions)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "contrasts", contrasts)
        object.__setattr__(self, "claims", claims)
        object.__setattr__(self, "matrix", None)
        self._left_out = (*absent, *left_out)
        return self

    @model_validator(mode="after")
    def _references(self) -> ExperimentConfig:
        if self.mirror not in (None, self.address):
            raise ValueError(f"out is {self.out!r} and mirror {self.mirror!r}: an address in out is the mirror")
        for name, condition in self.conditions.items():
            for used in (used for stage in condition.stages for used in stage.data_names):
                if used not in self.data:
                    raise ValueError(f"condition {name!r} names data {used!r}; data has {', '.join(self.data)}")
        for name, spec in self.data.items():
            if (needed := spec.condition_needed()) is not None:
                self._check_written(name, needed)
        for name, evaluation in self.evaluations.items():
            for part in evaluation.parts:
                there: Mapping[str, object] = self.data if part.what == "data" else self.directions
                if part.name not in there:
                    raise ValueError(f"evaluation {name!r} names {part}: {nearest(part.name, there)}")
        for name in self.measure or ():
            if name not in self.evaluations:
                raise ValueError(f"measure names {name!r}: {nearest(name, self.evaluations)}")
        meant = [(word, list(self.data)) for word in self.may_share]
        meant += [(word, list(self.evaluations)) for words in self.may_share.values() for word in words]
        for word, known in meant:
            if not any(fnmatchcase(name, word) for name in known):
                raise ValueError(f"may_share names {word!r}: {nearest(word, known)}")
        planned(self.contrasts, self.conditions, list(self.data), self._facts)
        check_claims(self.claims, self.contrasts)
        if self.only is not None:
            select(self.only, self.conditions, self.groups)
        stages = [(name, stage) for name, one in self.conditions.items() for stage in one.stages]
        by_tokens = [name for name, stage in stages if stage.match is not None and stage.match.by == "tokens"]
        if self.api_model is not None and by_tokens:
            raise ValueError(
                f"condition {by_tokens[0]!r} is matched by tokens, which nobody can count of a model behind an API; "
                "match by examples"
            )
        if self.api_model is not None and any(one.steer is not None for one in self.conditions.values()):
            raise ValueError("a condition has steer, and nothing can be added inside of a model behind an API")
        started = [name for name, one in self.conditions.items() if one.start is not None]
        if self.api_model is not None and started:
            raise ValueError(f"condition {started[0]!r} starts from weights; a model behind an API has none to put in")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} repeat")
        if self.finetuning.max_steps or self.finetuning.inoculation or self.finetuning.measure_at:
            raise ValueError(
                "finetuning.max_steps, inoculation and measure_at hold for one stage: give match, inoculation and "
                "measure_at there"
            )
        if self.api_model is not None and any(
            stage.kept_at for one in self.conditions.values() for stage in one.stages
        ):
            raise ValueError("measure_at keeps adapters on the way, and a provider keeps none of a model behind an API")
        self._check_directions()
        self._check_stages()
        self.parts.check_no_cycle()
        given = [name for name in DEFENCES if getattr(self.finetuning, name) is not None]
        if given and self.api_model is not None:
            raise ValueError(
                f"finetuning.{given[0]}: a provider of a model behind an API does not offer it; leave it out"
            )
        if "steer" in given:
            raise ValueError("finetuning.steer would steer every stage; give steer to the stages that are meant")
        if self.finetuning.mode == "full":
            raise ValueError("an experiment finetunes adapters; mode: full is for sgtr train")
        return self

    def _check_directions(self) -> None:
        """Directions read data and models that there are."""
        if self.directions and self.api_model is not None:
            raise ValueError("directions lie inside of a model, and nothing can be read inside of one behind an API")
        for name, one in self.directions.items():
            for used in one.data_names:
                if used not in self.data:
                    raise ValueError(f"direction {name!r} names data {used!r}: {nearest(used, self.data)}")
            for of in one.conditions:
                if of not in self.conditions:
                    raise ValueError(f"direction {name!r} names condition {of!r}: {nearest(of, self.conditions)}")
        for name, condition in self.conditions.items():
            for stage in condition.stages:
                if stage.direction is not None and stage.direction not in self.directions:
                    known = nearest(stage.direction, self.directions) if self.directions else "there are none"
                    raise ValueError(
                        f"condition {name!r} is steered along {stage.direction!r}, which is neither one of directions "
                        f"nor a file: {known}"
                    )

    def _check_stages(self) -> None:
        """The keys of stages that change how they are trained go together, and name adapters that there are."""
        for name, stage in ((name, stage) for name, one in self.conditions.items() for stage in one.stages):
            if stage.defences and self.api_model is not None:
                raise ValueError(
                    f"condition {name!r} has {stage.defences[0]}: a provider of a model behind an API does not offer it"
                )
            if stage.conditions and self.api_model is not None:
                raise ValueError(f"condition {name!r} has interleave.select: an API does not score given texts")
            for used in stage.conditions:
                if used not in self.conditions:
                    known = nearest(used, self.conditions)
                    raise ValueError(f"condition {name!r} selects rows by condition {used!r}: {known}")
            try:
                stage.over(self.finetuning)
            except ValidationError as error:
                said = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"condition {name!r}: {said}") from None
            except ValueError as error:
                raise ValueError(f"condition {name!r}: {error}") from None
            if (adapter := stage.inoculation_adapter) is not None:
                self._check_inoculation(name, adapter)

    def _check_inoculation(self, name: str, adapter: str) -> None:
        """An inoculation adapter is on the base model: of a condition of one plain stage, or one that exists."""
        other = self.conditions.get(adapter)
        if other is None:
            if "/" not in adapter and not Path(adapter).is_dir():
                raise ValueError(
                    f"condition {name!r} names inoculation_adapter {adapter!r}, which is no condition, no folder and "
                    f"no hub id (owner/name): {nearest(adapter, self.conditions)}"
                )
        elif other.start is not None or len(other.stages) != 1 or other.stages[0].inoculation_adapter is not None:
            raise ValueError(
                f"condition {name!r} names inoculation_adapter {adapter!r}: it is the adapter of a condition of one "
                "stage on the base model, without an inoculation adapter of its own"
            )

    def _check_written(self, name: str, condition: str) -> None:
        """What a condition's model writes is of a condition that exists."""
        if condition not in self.conditions:
            raise ValueError(
                f"data {name!r} is written by the model of condition {condition!r}, and there is no such condition. "
                f"Add it (conditions.{condition}=[{{data: SET}}], or its set in matrix.em), or name another one "
                f"(data.{name}.condition=NAME): {nearest(condition, self.conditions)}"
            )

    @property
    def parts(self) -> Parts:
        """The data sets, conditions and directions, with what each is made from."""
        return Parts(self.data, self.conditions, self.directions)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What optional contrasts, the primary family and claims name and the config does not have, a sentence each."""
        return self._left_out

    @property
    def api_model(self) -> str | None:
        """The provider's name of a model behind an API; None for a model of ours."""
        return api_model_name(self.model)

    @property
    def wanted_conditions(self) -> dict[str, Condition]:
        """The conditions that `only` keeps, and those that they are to be compared with."""
        if self.only is None:
            return self.conditions
        chosen = select(self.only, self.conditions, self.groups)
        points = on_the_way(self.conditions)
        kept = [name for one in chosen for name in (one, *points.get(one, ()))]
        return {
            name: self.conditions[name]
            for name in with_baselines(kept, self.contrasts, self.conditions, list(self.data))
        }

    @property
    def _facts(self) -> dict[str, Facts]:
        return {name: spec.facts for name, spec in self.evaluations.items()}

    @property
    def planned_contrasts(self) -> list[Planned]:
        """The comparisons that will be tested: of conditions and evaluations that are wanted."""
        conditions, evaluations = self.wanted_conditions, self.wanted_evaluations
        return [
            one
            for one in planned(self.contrasts, self.conditions, list(self.data), self._facts)
            if one.of in conditions and one.against in conditions and one.evaluation in evaluations
        ]

    @property
    def wanted_evaluations(self) -> dict[str, Evaluation]:
        """The evaluations that `measure` keeps."""
        return {name: spec for name, spec in self.evaluations.items() if self.measure is None or name in self.measure}

    @property
    def base_condition(self) -> str | None:
        """The first condition without stages and without a start, with which the others are compared."""
        return next((name for name, condition in self.wanted_conditions.items() if condition.is_base), None)

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return Path("runs") / self.name if self.out is None or is_address(self.out) else Path(self.out)

    @property
    def address(self) -> str | None:
        """Where what is finished is kept besides, if anywhere."""
        return self.out if self.out is not None and is_address(self.out) else self.mirror
