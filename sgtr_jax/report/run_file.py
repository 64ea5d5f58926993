"""What a run writes down for its report: `experiment.json`, the records of artifacts, metrics and samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

from sgtr_jax.errors import InputError
from sgtr_jax.files import parse_json, read_json
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.sealed import RECORD, FileFacts, read_record

if TYPE_CHECKING:  # Inspect is slow to import, and `sgtr status` does without
    from sgtr_eval.facts import ShownEntry


class InterleaveEntry(TypedDict):
    """Rows of another set that a stage mixes in."""

    data: str
    fraction: NotRequired[float | None]
    select: NotRequired[str | None]


class StageEntry(TypedDict):
    """One finetuning of a condition."""

    data: str
    interleave: NotRequired[InterleaveEntry | None]
    inoculation: NotRequired[str | None]
    until: NotRequired[float | int | None]  # the point of the stage at which its adapter was taken


class ConditionEntry(TypedDict):
    """A condition of the config."""

    stages: list[StageEntry]
    start: NotRequired[JsonObject | None]


class ClaimEntry(TypedDict):
    """A claim, and what it needs to be found of contrasts, by name."""

    text: str
    needs: dict[str, str]


class JudgeEntry(TypedDict):
    """The judge of the config."""

    model: str


class EvaluationEntry(TypedDict):
    """An evaluation of the config."""

    judge: NotRequired[JudgeEntry | bool | None]  # its own judge; of identity whether the judge reads it
    source: NotRequired[str]  # of self-recognition: whose summaries are the own ones


class ConfigEntry(TypedDict):
    """The config of a run, as far as a report reads it; `experiment.config` has all of it."""

    name: str
    model: str
    seeds: list[int]
    judge: JudgeEntry
    conditions: dict[str, ConditionEntry]
    groups: dict[str, list[str]]
    evaluations: NotRequired[dict[str, EvaluationEntry]]
    published: NotRequired[str | None]
    claims: NotRequired[dict[str, ClaimEntry]]


class CellEntry(TypedDict):
    """One measurement that is wanted."""

    condition: str
    seed: int
    evaluation: str
    task: str
    judged: bool
    own_texts: bool
    artifact: str  # its folder in the store
    own: NotRequired[ShownEntry | None]  # how an evaluation that is not this project's is read


class ArtifactEntry(TypedDict):
    """One artifact of the run, inputs before what is made from them."""

    artifact: str
    kind: str
    name: str
    inputs: NotRequired[list[str]]


class SharingEntry(TypedDict):
    """See `experiment.contamination.Sharing`."""

    data: str
    evaluation: str
    items: int
    shared: int | None
    why: str
    example: str
    of: str


class ContrastEntry(TypedDict):
    """See `experiment.contrasts.Planned`."""

    contrast: str
    of: str
    against: str
    evaluation: str
    metric: str
    kind: str
    margin: float | None
    primary: bool
    paired: bool
    better: str
    of_trained: bool
    against_trained: bool
    also: list[str]


class RunFile(TypedDict):
    """`experiment.json`; older versions wrote less."""

    config: ConfigEntry
    cells: list[CellEntry]
    artifacts: NotRequired[list[ArtifactEntry]]
    shared: NotRequired[list[SharingEntry]]
    contrasts: NotRequired[list[ContrastEntry]]
    left_out: NotRequired[list[str]]  # contrasts and claims whose conditions the config does not have


class FailureEntry(TypedDict):
    """Why an artifact could not be made when it was last tried: an entry of `failures.json`."""

    why: str
    traceback: NotRequired[list[str]]


def parse_failures(text: str, where: str) -> dict[str, FailureEntry]:
    """The entries of `failures.json` by artifact. Raises InputError."""
    entries = parse_json(text, where)
    if not isinstance(entries, dict) or not all(
        isinstance(one, dict) and isinstance(one.get("why"), str) for one in entries.values()
    ):
        raise InputError(f"{where}: expected a reason for each artifact")
    return cast(dict[str, FailureEntry], entries)


class Provenance(TypedDict):
    """By what an artifact was made, and when."""

    started: str
    made: str
    sgtr_jax: str
    python: str
    packages: dict[str, str]
    devices: list[str]


class ArtifactRecord(TypedDict):
    """The record of an artifact's folder."""

    kind: str
    name: str
    fingerprint: str
    settings: Mapping[str, Json]
    inputs: dict[str, str]  # folders by role
    provenance: Provenance
    files: dict[str, FileFacts]


SOURCE = "source.json"


class Source(TypedDict):
    """`source.json` of an artifact: the repository or folder that was read. It holds the commit that was found."""

    name: str
    commit: str | None  # None: a folder, which has none


class DoseEntry(TypedDict):
    """How much an adapter was trained, measured by another set; see `data.doses.Dose`."""

    by: str
    times: float


class TrainingReport(TypedDict):
    """`report.json` of an adapter, as far as a report reads it."""

    steps: int
    tokens: int
    examples_trained: NotRequired[int]


class MetricRow(TypedDict):
    """A line of `metrics.json`."""

    metric: str
    value: float
    n: int


class SampleRow(TypedDict):
    """A line of `samples.jsonl`: an answer, its score, and what else the scorer said in few words."""

    id: str
    question: str
    answer: str
    value: float | None
    scores: dict[str, Json]


def read_artifact(folder: Path) -> ArtifactRecord:
    """The record of an artifact. Raises InputError if it is missing or damaged, or lacks what records have."""
    record = {"inputs": {}, **read_record(folder)}
    provenance = record.get("provenance")
    lacks = [key for key in ("kind", "name", "fingerprint") if not isinstance(record.get(key), str)]
    lacks += [key for key in ("settings", "inputs") if not isinstance(record.get(key), dict)]
    lacks += [] if isinstance(provenance, dict) and isinstance(provenance.get("made"), str) else ["provenance"]
    if lacks:
        raise InputError(
            f"{folder / RECORD}: does not say what was made there, and when ({', '.join(lacks)}): it was not written "
            "by sgtr-jax, or was changed. Remove the folder, or have its numbers made in another one"
        )
    return cast(ArtifactRecord, record)


def read_source(folder: Path) -> Source | None:
    """Of what an artifact was read; None for one that was not read from the hub or a folder."""
    path = folder / SOURCE
    return cast(Source, read_json(path)) if path.is_file() else None


def at_commit(source: Source) -> str:
    """A repository at its commit, or a folder, as models are named."""
    return source["name"] if source["commit"] is None else f"{source['name']}@{source['commit']}"
