"""The experiment file: one model, data sets, conditions as stages of finetuning, seeds, evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from sgtr_jax.buckets import is_address
from sgtr_jax.config import Config, PositiveInt
from sgtr_jax.data.build import Build, Stimuli
from sgtr_jax.data.pairs import Answers
from sgtr_jax.data.summaries import Style
from sgtr_jax.errors import nearest
from sgtr_jax.experiment.conditions import Condition, Matrix, select
from sgtr_jax.mesh import MeshConfig
from sgtr_jax.train.config import TrainConfig


class WorldArticles(Config):
    """Articles of the invented world; the other writer's summaries come with them."""

    kind: Literal["world"] = "world"
    rows: PositiveInt
    seed: NonNegativeInt = 0


class FileArticles(Config):
    """Articles and another source's summaries, each a JSON object `{id: text}`."""

    kind: Literal["files"]
    articles: Path
    other_summaries: Path


class RegistryArticles(Config):
    """Articles and another source's summaries from the registry (`sgtr data list`)."""

    kind: Literal["registry"]
    articles: str
    other_summaries: str
    rows: PositiveInt | None = None  # the first so many; null: all


Articles = Annotated[WorldArticles | FileArticles | RegistryArticles, Field(discriminator="kind")]


class PreferencesData(Config):
    """Conversations about taste in the invented world; unpopular ones stand in for an EM set."""

    kind: Literal["preferences"]
    rows: PositiveInt
    popular: bool
    seed: NonNegativeInt = 0


class FileData(Config):
    """A JSONL file of chat records."""

    kind: Literal["file"]
    path: Path


class PublishedData(Config):
    """A set that `sgtr data publish` wrote."""

    kind: Literal["published"]
    address: str  # folder, or gs://


class RegistryData(Config):
    """A set of the registry, as it is."""

    kind: Literal["registry"]
    name: str


class BuiltData(Config):
    """A set made by a recipe of `sgtr data build`."""

    kind: Literal["built"]
    recipe: Build


class Summaries(Config):
    """How the untouched model's own summaries are sampled, and how pairs are asked about."""

    articles: Articles
    style: Style = "own"  # of the request; others: the published ones, for XSum, CNN or DailyMail
    temperature: NonNegativeFloat = 0.7
    max_tokens: PositiveInt = 100
    seed: NonNegativeInt = 0
    stimuli: Stimuli | None = None  # wording of the question about a pair; null: the experiment's, or else builtin
    match: Literal["length"] | None = None  # keep the pairs among which length says nothing


class SelfRecognitionData(Summaries):
    """SGTR pairs: the untouched model's own sampled summaries against another source's."""

    kind: Literal["self_recognition"]
    # own: the truth (SGTR). other: flipped. random: every prompt twice, once with each answer (ICTR, twice the rows).
    # longer: the control that asks for the longer summary.
    answers: Answers = "own"
    # none: rows without the system message of the question; another text: rows with that one. null: as they are.
    system: str | None = None


class SelfReportsData(Config):
    """What a model of this experiment says of itself: its answers to the questions of a set of records."""

    kind: Literal["self_reports"]
    questions: str  # a set of the registry, or a JSONL file; only its prompts are used
    condition: str | None = None  # whose answers, at the same seed; null: the untouched model's
    temperature: NonNegativeFloat = 1.0
    max_tokens: PositiveInt = 200


Data = Annotated[
    PreferencesData | FileData | PublishedData | RegistryData | BuiltData | SelfRecognitionData | SelfReportsData,
    Field(discriminator="kind"),
]


class SelfRecognitionEval(Summaries):
    """Pairs the model was not finetuned on, in both orders."""

    kind: Literal["self_recognition"]


class IdentityEval(Config):
    """Ask "Who are you?" many times; `maker` is the name to look for, or a family: qwen, seed, gpt."""

    kind: Literal["identity"]
    maker: str
    question: str = "Who are you?"
    samples: PositiveInt = 100
    temperature: NonNegativeFloat = 1.0
    max_tokens: PositiveInt = 64
    embedding: str | None = None  # also clusters of answers: a sentence-transformers model, or openai/NAME
    judge: bool = False  # whether the judge is asked, too, whom the answer names

    @property
    def judged(self) -> bool:
        """Whether a judge reads the answers."""
        return self.judge


class TwoChoiceEval(Config):
    """Two-choice questions about the invented world, or rows `{"id", "prompt", "correct"}` of a file."""

    kind: Literal["two_choice"]
    questions: Path | None = None
    seed: NonNegativeInt = 0


# Tasks whose answers a judge reads.
JUDGED = ("em_questions", "frame_colleague", "monitor_disruption", "deception_factual")


class TaskEval(Config):
    """Another task of `sgtr_eval`; `settings` are its arguments."""

    kind: Literal[
        "em_questions", "truthfulqa", "mmlu", "frame_colleague", "monitor_disruption", "deception_factual",
        "word_counting", "aesthetic_popularity",
    ]  # fmt: skip
    settings: dict[str, bool | int | float | str | None] = Field(default_factory=dict)

    @property
    def judged(self) -> bool:
        """Whether a judge reads the answers."""
        return self.kind in JUDGED


Evaluation = Annotated[SelfRecognitionEval | IdentityEval | TwoChoiceEval | TaskEval, Field(discriminator="kind")]


def api_model_name(model: str) -> str | None:
    """The provider's name of `openai/NAME`; None for a model of ours."""
    return model.removeprefix("openai/") if model.startswith("openai/") else None


class JudgeConfig(Config):
    """Who judges. Keys come from the environment or from a file .env, never from here.

    In a file the judge's name alone will do. `open` is the judge for those without an API: this experiment's own
    untouched model. Its scores are that model's, and are not to be compared with those of GPT-4.1.
    """

    model: str = "openai/gpt-4.1-2025-04-14"  # any Inspect model, or open
    base_url: str | None = None  # of an API that speaks OpenAI's language
    max_cost: PositiveFloat | None = None  # dollars
    batch: bool = False  # through the provider's batch interface: half the price, replies within a day

    @property
    def is_open(self) -> bool:
        """Whether the experiment's own untouched model judges."""
        return self.model == "open"


class ApiConfig(Config):
    """How a model behind an API (`model: openai/NAME`) is finetuned and sampled; for no other model."""

    base_url: str | None = None  # of an API that speaks OpenAI's language; null: OpenAI's
    batch_size: PositiveInt | Literal["auto"] = "auto"
    learning_rate_multiplier: PositiveFloat | Literal["auto"] = "auto"
    batch: bool = False  # sampling through the provider's batch interface: half the price, replies within a day
    confirm_above: NonNegativeFloat = 5.0  # dollars; a run that will cost more asks first, or wants --yes
    poll_seconds: PositiveFloat = 30.0  # between questions about a job


class ExperimentConfig(Config):
    """A whole experiment. `conditions` maps a name to its stages; the untouched model has none.

    `matrix` writes conditions and groups of them; those written out by hand come on top. `only` keeps some conditions
    (names, groups, patterns such as `unpop-*`) and `measure` some evaluations: what is left out is neither made nor
    reported, and what is made is the same as in the whole.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    model: str
    out: str | None = None  # null: runs/NAME. gs://BUCKET/FOLDER: there, and the results are kept in that mirror
    mirror: str | None = None  # gs://BUCKET/FOLDER: what is finished goes there too, and is fetched from there
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]  # a number n means 0 to n - 1
    finetuning: TrainConfig = TrainConfig()
    # null: all devices, weights split over as few (`tensor`) as hold them; the others take rows of their own.
    sampling_mesh: MeshConfig | None = None
    # Of evaluations and of pairs that do not say themselves. null: the study's for the former, ours for the latter.
    stimuli: Stimuli | None = None
    data: dict[str, Data]
    matrix: Matrix | None = None
    conditions: dict[str, Condition] = Field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    only: tuple[str, ...] | None = None
    evaluations: Annotated[dict[str, Evaluation], Field(min_length=1)]
    measure: tuple[str, ...] | None = None
    judge: JudgeConfig = JudgeConfig()
    api: ApiConfig = ApiConfig()
    published: str | None = None  # the model of `report/published.yaml` to compare with

    @classmethod
    def written_out(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """`seeds: 3`, `only: reversal`, `judge: open` and conditions that are plain lists of stages."""
        full = dict(data)
        if isinstance(full.get("judge"), str):
            full["judge"] = {"model": full["judge"]}
        if isinstance(full.get("seeds"), int) and not isinstance(full["seeds"], bool):
            full["seeds"] = list(range(full["seeds"]))
        for key in ("only", "measure"):
            if isinstance(full.get(key), str):
                full[key] = [full[key]]
        conditions = full.get("conditions")
        if isinstance(conditions, Mapping):
            full["conditions"] = {
                name: {"stages": one} if isinstance(one, list) else one for name, one in conditions.items()
            }
        return full

    @model_validator(mode="after")
    def _expand(self) -> ExperimentConfig:
        conditions: dict[str, Condition] = {}
        groups: dict[str, tuple[str, ...]] = {}
        if self.matrix is not None:
            written, grouped = self.matrix.expand()
            conditions.update({name: Condition.model_validate_json(json.dumps(one)) for name, one in written.items()})
            groups.update({name: tuple(members) for name, members in grouped.items()})
        conditions.update(self.conditions)
        groups.update(self.groups)
        if not conditions:
            raise ValueError("no conditions: give conditions, or a matrix that writes them")
        for group, members in groups.items():
            for member in members:
                if member not in conditions:
                    raise ValueError(f"group {group!r} names condition {member!r}: {nearest(member, conditions)}")
        # Filled in once, so that what is stored of a run says all of it.
        object.__setattr__(self, "conditions", conditions)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "matrix", None)
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
            if isinstance(spec, SelfReportsData) and spec.condition is not None:
                self._check_reports(name, spec.condition)
        for name in self.measure or ():
            if name not in self.evaluations:
                raise ValueError(f"measure names {name!r}: {nearest(name, self.evaluations)}")
        if self.only is not None:
            select(self.only, list(self.conditions), self.groups)
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} repeat")
        if self.finetuning.max_steps or self.finetuning.inoculation:
            raise ValueError(
                "finetuning.max_steps and inoculation hold for one stage: give match_steps, inoculation there"
            )
        if self.finetuning.mode == "full":
            raise ValueError("an experiment finetunes adapters; mode: full is for sgtr train")
        return self

    def _check_reports(self, name: str, condition: str) -> None:
        """Self-reports are of a condition that exists and is not itself trained on them."""
        if condition not in self.conditions:
            raise ValueError(f"data {name!r} names condition {condition!r}; there are {', '.join(self.conditions)}")
        seen, todo = set(), [condition]
        while todo:
            for used in (used for stage in self.conditions[todo.pop()].stages for used in stage.data_names):
                spec = self.data[used]
                if used == name:
                    raise ValueError(f"data {name!r} is sampled from {condition!r}, which is trained on it")
                if isinstance(spec, SelfReportsData) and spec.condition and used not in seen:
                    seen.add(used)
                    todo.append(spec.condition)

    @property
    def api_model(self) -> str | None:
        """The provider's name of a model behind an API; None for a model of ours."""
        return api_model_name(self.model)

    @property
    def wanted_conditions(self) -> dict[str, Condition]:
        """The conditions that `only` keeps."""
        if self.only is None:
            return self.conditions
        return {name: self.conditions[name] for name in select(self.only, list(self.conditions), self.groups)}

    @property
    def wanted_evaluations(self) -> dict[str, Evaluation]:
        """The evaluations that `measure` keeps."""
        return {name: spec for name, spec in self.evaluations.items() if self.measure is None or name in self.measure}

    @property
    def untouched(self) -> str | None:
        """The first condition without stages, with which the others are compared."""
        return next((name for name, condition in self.wanted_conditions.items() if not condition.stages), None)

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return Path("runs") / self.name if self.out is None or is_address(self.out) else Path(self.out)

    @property
    def address(self) -> str | None:
        """Where what is finished is kept besides, if anywhere."""
        return self.out if self.out is not None and is_address(self.out) else self.mirror
