"""The experiment file: one model, data sets, conditions as stages of finetuning, seeds, evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, NonNegativeFloat, PositiveFloat, Tag, model_validator

from sgtr_jax.buckets import is_address
from sgtr_jax.config import Config, Name, PositiveInt, Seed, check_distinct
from sgtr_jax.data.build import Build, Stimuli
from sgtr_jax.data.halves import Split
from sgtr_jax.data.pairs import Answers, Unusable
from sgtr_jax.data.row_formats import RowFormat
from sgtr_jax.data.summaries import Style
from sgtr_jax.errors import nearest
from sgtr_jax.experiment.conditions import Condition, Matrix, select
from sgtr_jax.mesh import MeshConfig
from sgtr_jax.train.config import TrainConfig


class WorldArticles(Config):
    """Articles of the invented world; the other writer's summaries come with them."""

    kind: Literal["world"] = "world"
    rows: PositiveInt  # The number of articles.
    seed: Seed = 0  # Another number gives other articles.


class FileArticles(Config):
    """Articles and another source's summaries, each a JSON object `{id: text}`."""

    kind: Literal["files"]
    articles: Path  # The file of articles.
    other_summaries: Path  # The file of the other writer's summaries, with the same ids.
    # train, held_out: only one half of the articles, which has none of the other. null: all of them.
    split: Split | None = None


class RegistryArticles(Config):
    """Articles and another source's summaries from the registry (`sgtr data list`)."""

    kind: Literal["registry"]
    articles: str  # The name of the set of articles.
    other_summaries: str  # The name of the set of the other writer's summaries.
    rows: PositiveInt | None = None  # Only the first so many articles are used. null: all of them.
    # train, held_out: only one half of the articles, which has none of the other. null: all of them.
    split: Split | None = None


Articles = Annotated[WorldArticles | FileArticles | RegistryArticles, Field(discriminator="kind")]


class PreferencesData(Config):
    """Conversations about taste in the invented world; unpopular ones stand in for an EM set."""

    kind: Literal["preferences"]
    rows: PositiveInt  # The number of conversations.
    popular: bool  # true: the answers prefer what most people of that world like; false: what hardly anyone likes.
    seed: Seed = 0  # Another number gives other conversations.


class FileData(Config):
    """A JSONL file of chat records."""

    kind: Literal["file"]
    path: Path  # The file. A relative path starts at the folder in which the command is run.
    # The form of its rows: `messages`, `sharegpt`, `alpaca` or `prompt_completion`.
    format: RowFormat = "messages"


class PublishedData(Config):
    """A set that `sgtr data publish` wrote."""

    kind: Literal["published"]
    address: str  # The folder of the set, or its gs:// address.


class RegistryData(Config):
    """A set of the registry, as it is."""

    kind: Literal["registry"]
    name: str  # The name of the set, as `sgtr data list` shows it.


class BuiltData(Config):
    """A set made by a recipe of `sgtr data build`."""

    kind: Literal["built"]
    recipe: Build  # What is built, and from what. The keys are those of `sgtr data build`.


class Summaries(Config):
    """How the untouched model's own summaries are sampled, and how pairs are asked about."""

    articles: Articles  # The articles that are summarised, with the other writer's summaries of them.
    # The wording of the request for a summary. own: this project's; the others: the published wording for that set.
    style: Style = "own"
    temperature: NonNegativeFloat = 0.7  # The temperature at which summaries are sampled.
    max_tokens: PositiveInt = 100  # The largest number of tokens of a summary.
    seed: Seed = 0  # The seed with which summaries are sampled. It does not depend on `seeds`.
    # The wording of the question about a pair. null: as the experiment's `stimuli`, and builtin if that is null, too.
    stimuli: Stimuli | None = None
    # length: keep only pairs among which the lengths of the summaries do not tell the writers apart. null: keep all.
    match: Literal["length"] | None = None
    # drop: leave out pairs with an empty summary or leaked reasoning. keep: leave them in, as the released sets do.
    unusable: Unusable = "drop"


class SelfRecognitionData(Summaries):
    """SGTR pairs: the untouched model's own sampled summaries against another source's."""

    kind: Literal["self_recognition"]
    # Which summary the answer names. own: the model's own (SGTR). other: the other writer's. random: every prompt
    # stands twice, once with each answer (ICTR, twice the rows). longer: the question is which summary is longer.
    answers: Answers = "own"
    # none: the rows have no system message. Another text: that system message. null: the system message of the
    # question.
    system: str | None = None


class SelfReportsData(Config):
    """What a model of this experiment says of itself: its answers to the questions of a set of records."""

    kind: Literal["self_reports"]
    questions: str  # A set of the registry, or a JSONL file. Only its prompts are used.
    condition: str | None = None  # The condition whose model answers, at the same seed. null: the base model answers.
    temperature: NonNegativeFloat = 1.0  # The temperature at which answers are sampled.
    max_tokens: PositiveInt = 200  # The largest number of tokens of an answer. An answer that reaches it is dropped.


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
    maker: str  # The name to look for, or a model family: qwen, seed or gpt.
    question: str = "Who are you?"  # The question that is asked.
    samples: PositiveInt = 100  # How many answers are sampled.
    temperature: NonNegativeFloat = 1.0  # The temperature at which answers are sampled.
    max_tokens: PositiveInt = 64  # The largest number of tokens of an answer.
    # A sentence-transformers model, or openai/NAME, with which answers are also clustered by meaning. null: no
    # clusters.
    embedding: str | None = None
    judge: bool = False  # Whether the judge also reads each answer and says whom it names.


class TwoChoiceEval(Config):
    """Two-choice questions about the invented world, or rows `{"id", "prompt", "correct"}` of a file."""

    kind: Literal["two_choice"]
    questions: Path | None = None  # The file of questions. null: questions about the invented world.
    seed: Seed = 0  # Another number gives other questions about the invented world.


T = TypeVar("T")
_MOST_SEEDS = 1000


def _check_task(kind: str) -> str:
    from sgtr_eval.facts import all_facts

    if kind not in (known := all_facts()):
        raise ValueError(f"no evaluation has this name: {nearest(kind, known)}")
    return kind


class TaskEval(Config):
    """Another evaluation, by the name of its task in `sgtr_eval`; `settings` are its arguments."""

    kind: Annotated[str, AfterValidator(_check_task)]
    # The arguments of the task; see the page of evaluations.
    settings: dict[str, bool | int | float | str | None] = Field(default_factory=dict)


def _config_of(value: Any) -> str:
    """The type of an evaluation's config by its kind: three have one of their own."""
    kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
    return kind if kind in ("self_recognition", "identity", "two_choice") else "task"


Evaluation = Annotated[
    Annotated[SelfRecognitionEval, Tag("self_recognition")]
    | Annotated[IdentityEval, Tag("identity")]
    | Annotated[TwoChoiceEval, Tag("two_choice")]
    | Annotated[TaskEval, Tag("task")],
    Discriminator(_config_of),
]


def api_model_name(model: str) -> str | None:
    """The provider's name of `openai/NAME`; None for a model of ours."""
    return model.removeprefix("openai/") if model.startswith("openai/") else None


class JudgeConfig(Config):
    """Who judges. Keys come from the environment or from a file .env, never from here.

    In a file the judge's name alone will do. `open` is the judge for those without an API: this experiment's own
    untouched model. Its scores are that model's, and are not to be compared with those of GPT-4.1.
    """

    # Any Inspect model, or open. `judge: NAME` is a short form of `judge: {model: NAME}`.
    model: str = "openai/gpt-4.1-2025-04-14"
    base_url: str | None = None  # The address of another server that speaks OpenAI's API. null: the provider's own.
    # How a score is read. logprobs: the mean under the judge's log-probabilities of the whole numbers. text: the score
    # that its words state without ambiguity. published: the first number of its words, as the study did. null:
    # logprobs, and text of a judge that gives none; an evaluation's own `judge_mode` goes first.
    mode: Literal["logprobs", "text", "published"] | None = None
    # The budget of the whole run for this judge, in US dollars, restarts included. A run that is expected to need more
    # asks first, or needs --yes, and ends when it is spent. null: no limit.
    max_cost: PositiveFloat | None = None
    batch: bool = False  # Whether the provider's batch interface is used. It costs half, and replies come within a day.

    @property
    def is_open(self) -> bool:
        """Whether the experiment's own untouched model judges."""
        return self.model == "open"


class ApiConfig(Config):
    """How a model behind an API (`model: openai/NAME`) is finetuned and sampled; for no other model."""

    base_url: str | None = None  # The address of another server that speaks OpenAI's API. null: OpenAI's own.
    batch_size: PositiveInt | Literal["auto"] = "auto"  # The batch size of finetuning jobs. auto: the provider chooses.
    # The learning rate multiplier of finetuning jobs. auto: the provider chooses.
    learning_rate_multiplier: PositiveFloat | Literal["auto"] = "auto"
    # Whether answers are sampled through the provider's batch interface. It costs half, and replies come within a day.
    batch: bool = False
    confirm_above: NonNegativeFloat = 5.0  # A run that would cost more US dollars than this asks first, or needs --yes.
    poll_seconds: PositiveFloat = 30.0  # The time between two questions about the state of a job, in seconds.


def _add(what: str, written: dict[str, T], own: Mapping[str, T]) -> None:
    """Add what was written by hand to what the matrix wrote. Raises ValueError if it would replace something."""
    for name, one in own.items():
        if written.setdefault(name, one) != one:
            raise ValueError(f"{what} {name!r} is also written by the matrix, as another one; rename it")


class ExperimentConfig(Config):
    """A whole experiment. `conditions` maps a name to its stages; the untouched model has none.

    `matrix` writes conditions and groups of them; those written out by hand come on top. `only` keeps some conditions
    (names, groups, patterns such as `unpop-*`) and `measure` some evaluations: what is left out is neither made nor
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
    matrix: Matrix | None = None  # Conditions that are written in bulk.
    # The conditions by name, each a list of stages; [] is the base model. They are added to those of the matrix.
    conditions: dict[Name, Condition] = Field(default_factory=dict)
    # Names for several conditions, for `only` and for the figures. They are added to those of the matrix.
    groups: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    # The conditions that are made and reported: names, groups, or patterns such as `unpop-*`. null: all of them.
    only: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    # The evaluations by a name of your choice. Every condition is measured by each of them.
    evaluations: Annotated[dict[Name, Evaluation], Field(min_length=1)]
    # The evaluations that are run and reported, by name. null: all of them.
    measure: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    # Data sets that may hold questions or articles of evaluations: names or patterns, each with a list of evaluations
    # or patterns of them. What two share is always counted. More than chance explains is refused unless it stands here.
    may_share: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    judge: JudgeConfig = JudgeConfig()  # The model that judges answers.
    api: ApiConfig = ApiConfig()  # Settings for a model behind an API.
    # The model of `report/published.yaml` whose published numbers stand beside the measured ones. null: none.
    published: str | None = None

    @classmethod
    def written_out(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """`seeds: 3`, `only: reversal`, `judge: open` and conditions that are plain lists of stages."""
        full = dict(data)
        if isinstance(full.get("judge"), str):
            full["judge"] = {"model": full["judge"]}
        if isinstance(full.get("seeds"), int) and not isinstance(full["seeds"], bool):
            if full["seeds"] > _MOST_SEEDS:
                raise ValueError(f"seeds: {full['seeds']} means so many runs of each condition; at most {_MOST_SEEDS}")
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
        conditions: dict[Name, Condition] = {}
        groups: dict[Name, tuple[str, ...]] = {}
        if self.matrix is not None:
            written, grouped = self.matrix.expand()
            conditions.update({name: Condition.model_validate_json(json.dumps(one)) for name, one in written.items()})
            groups.update({name: tuple(members) for name, members in grouped.items()})
        _add("condition", conditions, self.conditions)
        _add("group", groups, self.groups)
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
        meant = [(word, list(self.data)) for word in self.may_share]
        meant += [(word, list(self.evaluations)) for words in self.may_share.values() for word in words]
        for word, known in meant:
            if not any(fnmatchcase(name, word) for name in known):
                raise ValueError(f"may_share names {word!r}: {nearest(word, known)}")
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
