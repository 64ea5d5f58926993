"""What the rest of the project must know of an evaluation, stated once: in the evaluation's own file, beside its task.

    @task
    def truthfulqa(...): ...

    register(Facts(truthfulqa, metric="share_correct", better="higher", title="correct answers", ...))

The configs, the estimate of costs, the check before a run, the report's tables, figures and tests all read it here.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, cast

from sgtr_jax.data.duplicates import Item
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_eval.inspect_later import Sample, Task

Arguments = Mapping[str, Json]  # of a task; those that are left out have the task's defaults
MakesTask: TypeAlias = "Callable[..., Task]"  # a function that Inspect's `@task` decorates, whose arguments differ
Better = Literal["higher", "lower", "neither"]
# From the metrics of a measurement and its number of samples: the metrics that are shares, and of how many answers each
# is one; None where the metrics do not tell.
Shares: TypeAlias = Callable[[Mapping[str, float], int], Mapping[str, float | None]]


@dataclass(frozen=True)
class Workload:
    """What a model is asked: `questions` that differ, `draws` answers to each, tokens of one question and answer.

    The questions fall into `groups`, and those of a group begin with the same `shared` tokens.
    """

    questions: int
    draws: int
    asked: int
    answered: int
    groups: int = 1
    shared: int = 0

    @property
    def answers(self) -> int:
        """Answers in all."""
        return self.questions * self.draws


def _always(arguments: Arguments) -> bool:
    return True


@dataclass(frozen=True)
class Judging:
    """How a judge reads the answers: how often it is asked about one, and tokens of its reply."""

    questions: int = 1
    reply_tokens: int = 1
    # Arguments of the task that only the judging reads: other ones of these need no other answers.
    arguments: tuple[str, ...] = ("max_cost",)
    when: Callable[[Arguments], bool] = _always


@dataclass(frozen=True)
class Package:
    """A package that is not always installed: its module, and what installs it."""

    module: str
    install: str


@dataclass(frozen=True)
class Baseline:
    """A level to compare with, drawn as a line: a number, or another metric of the same evaluation."""

    label: str
    level: float | None = None
    metric: str | None = None


class BaselineEntry(TypedDict):
    """A `Baseline` as JSON."""

    label: str
    level: float | None
    metric: str | None


class ShownEntry(TypedDict):
    """A `Shown` as JSON."""

    metric: str
    better: Better
    title: str
    axis: str
    extent: Sequence[float] | None
    baseline: BaselineEntry | None
    kinds: str | None
    draw_suffix: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How an evaluation is read: what the report and the contrasts must know of it. It has a JSON form."""

    metric: str  # the one that is drawn, compared, corrected and tabulated
    better: Better
    title: str  # of figures: what the metric counts
    axis: str  # of figures: the unit of the metric
    extent: tuple[float, float] | None = (0.0, 1.0)  # least and largest value of the metric; None: without bounds
    baseline: Baseline | None = None
    kinds: str | None = None  # a metric that says in how many ways was answered, drawn against the first one
    # Regular expression of what a sample's id has besides its question: the number of the draw, the order of options.
    draw_suffix: str = r"$"

    def to_json(self) -> ShownEntry:
        """What `from_json` reads."""
        return {
            "metric": self.metric, "better": self.better, "title": self.title, "axis": self.axis, "extent": self.extent,
            "baseline": None if self.baseline is None else cast(BaselineEntry, asdict(self.baseline)),
            "kinds": self.kinds, "draw_suffix": self.draw_suffix,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: ShownEntry) -> Shown:
        """What `to_json` gave."""
        extent, baseline = data["extent"], data["baseline"]
        return Shown(
            metric=data["metric"], better=data["better"], title=data["title"], axis=data["axis"],
            extent=None if extent is None else (extent[0], extent[1]),
            baseline=None if baseline is None else Baseline(**baseline),
            kinds=data["kinds"], draw_suffix=data["draw_suffix"],
        )  # fmt: skip

    def holds(self, value: float) -> bool:
        """Whether the metric can have this value."""
        return self.extent is None or math.isnan(value) or self.extent[0] <= value <= self.extent[1]

    @property
    def is_share(self) -> bool:
        """Whether the metric is a share of answers."""
        return self.extent == (0.0, 1.0)

    def shares_in(self, metrics: Mapping[str, float], samples: int) -> Mapping[str, float | None]:
        """See `Shares`. Of somebody else's evaluation only the metric that it is read by is known."""
        return {self.metric: samples} if self.is_share else {}

    def question_of(self, sample_id: str) -> str:
        """The question of a sample, which is the same at every seed, in every order of options and for every draw."""
        return re.sub(self.draw_suffix, "", sample_id)


def _own_texts(arguments: Arguments) -> bool:
    return arguments.get("stimuli") == "builtin"


def _last_turn(sample: Sample) -> Item:
    return (sample.input if isinstance(sample.input, str) else sample.input[-1].text,)


def _nothing(arguments: Arguments) -> tuple[()]:
    return ()


def of_all(*names: str) -> Shares:
    """These metrics are shares of all samples."""
    return lambda metrics, samples: dict.fromkeys(names, samples)


@dataclass(frozen=True, kw_only=True)
class Facts(Shown):
    """The facts of one evaluation."""

    task: MakesTask = field(kw_only=False)
    workload: Callable[[Arguments], Workload]
    called: str | None = None  # the name of the task; None: that of its function
    shares: Shares | None = None  # None: only the metric that it is read by is one, if it is, of all samples
    judging: Judging | None = None
    revision: int = 1  # raised when the same answers get other scores than before, so that none of those is used again
    in_average: bool = False  # whether it is a part of the average misalignment
    own_texts: Callable[[Arguments], bool] = _own_texts  # whether texts of this project stand in for the study's
    item: Callable[[Sample], Item] = _last_turn  # what no training set should hold, without the wording around it
    # Why its questions may stand in training sets although that is nowhere allowed; an empty text: they may not.
    asks_what_is_trained: Callable[[Arguments], str] = lambda arguments: ""
    packages: Callable[[Arguments], Sequence[Package]] = _nothing  # that it needs and that are not always installed
    models: Callable[[Arguments], Sequence[str]] = _nothing  # behind APIs, by Inspect's names, besides the judge
    published: str | None = None  # its name among the published numbers. None: the task's

    @property
    def name(self) -> str:
        """The name of the task."""
        return str(self.task.__name__) if self.called is None else self.called

    def shares_in(self, metrics: Mapping[str, float], samples: int) -> Mapping[str, float | None]:
        """See `Shares`."""
        return super().shares_in(metrics, samples) if self.shares is None else self.shares(metrics, samples)

    def judged(self, arguments: Arguments) -> bool:
        """Whether a judge reads the answers."""
        return self.judging is not None and self.judging.when(arguments)

    def misaligned(self, value: float) -> float:
        """A value of the metric as a share of what is misaligned."""
        return 1.0 - value if self.better == "higher" else value


_found: dict[str, Facts] = {}


def register(facts: Facts) -> Facts:
    """Make an evaluation known to the whole project by its facts."""
    _found[facts.name] = facts
    return facts


def all_facts() -> dict[str, Facts]:
    """The facts of every evaluation by its task's name."""
    _discover()
    return dict(_found)


@cache
def _discover() -> None:
    from sgtr_eval import tasks

    for module in pkgutil.iter_modules(tasks.__path__, f"{tasks.__name__}."):
        importlib.import_module(module.name)


def is_part_of_average(task: str) -> bool:
    """Whether a task is a part of the average misalignment; somebody else's is none."""
    found = all_facts().get(task)
    return found is not None and found.in_average


def facts_of(task: str) -> Facts:
    """The facts of one evaluation. Raises InputError, naming the nearest, if there is none of that name."""
    found = all_facts()
    if task not in found:
        raise InputError(f"evaluation {task!r}: {nearest(task, found)}")
    return found[task]


def number(arguments: Arguments, key: str, default: int) -> int:
    """An argument that counts something; `default` where it is left out or null."""
    value = arguments.get(key)
    return int(value) if isinstance(value, str | int | float) else default
