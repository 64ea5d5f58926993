"""Finetuning behind OpenAI's API, or one that speaks its language: files, jobs, and never a job twice.

A job carries the fingerprint of what it is made from in its metadata, so the provider's own list is the registry:
whoever runs the same recipe again, after a kill or on another machine, finds the job instead of paying for a second.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import openai
from openai.types.fine_tuning import FineTuningJob

from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import read_json, write_json
from sgtr_jax.finetune.uploads import FileWait, message_of, rows_as_file, uploaded

_KEY = "sgtr_recipe"  # of a job's metadata
_TRIES = 5
# After these nobody knows whether the request was carried out.
_LOST = (openai.APIConnectionError, openai.InternalServerError, openai.ConflictError)
# Of a failed job's error: the provider's safety check stopped it, before training or after. An outcome, not an error.
# The code decides where it says; providers give `invalid_training_file` both for broken rows and for harmful ones.
_SAFETY_CODE = re.compile(
    r"unsafe|moderat|safety|(content|usage|safety)_?polic|policy_violation|content_filter|harm(ful|s|_|$)|flagged|\brai_",
    re.IGNORECASE,
)
_OTHER_CODE = re.compile(
    r"limit|server|internal|timeout|account|organi[sz]ation|permission|api_key|not_found", re.IGNORECASE
)
_SAFETY_WORDS = re.compile(
    r"\bunsafe\b|moderation|(usage|content|safety) polic|safety (check|eval|review|system|standard)|\brai checks?\b"
    r"|\b(disallowed|prohibited|harmful|inappropriate) (content|material|examples|data)|\bflagged as\b"
    r"|\bpolicy violation",
    re.IGNORECASE,
)
# Of these the check itself says no, whatever else is named. A policy on payments or on keeping data is no such check.
_VIOLATES = re.compile(
    r"violat\w*\b(?:(?!payment|billing|retention|organi[sz]ation|privacy|credit).)*\bpolic", re.IGNORECASE | re.DOTALL
)
# An account that may not spend more is "blocked", too.
_MONEY = re.compile(r"quota|billing|payment|credit|(hard|spend(ing)?) (limit|cap)", re.IGNORECASE)
# The check did not come to an answer, or the account may not ask.
_NO_ANSWER = re.compile(
    r"internal error|timed? ?out|could not be completed|unavailable|\bretry\b|try again|must be|verification|\bline \d",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class ApiFinetune:
    """One finetuning job: rows of chat on a model of the provider, which may itself be a finetuned one."""

    key: str  # fingerprint of the recipe
    name: str  # for people, and the finetuned model's suffix
    model: str
    records: Sequence[Record]
    epochs: int
    batch_size: int | Literal["auto"]
    learning_rate_multiplier: float | Literal["auto"]
    seed: int
    folder: Path  # gets train.jsonl and job.json


@dataclass(frozen=True)
class Ended:
    """What became of a job: a model, a refusal by the provider's safety check, or a failure."""

    job: FineTuningJob
    model: str | None = None
    refused: str | None = None
    failed: str | None = None


class Provider:
    """The files and jobs of one account. Requests that change nothing are retried by the client."""

    def __init__(self, base_url: str | None = None, wait: float = 1.0) -> None:
        # A job takes hours: a minute without an answer must not end the waiting for it.
        try:
            self._client = openai.OpenAI(base_url=base_url, max_retries=8)
        except openai.OpenAIError as error:  # no key
            raise InputError(f"finetuning behind an API: {error}") from None
        # A request that may have been carried out though its reply was lost is never simply sent again.
        self._once = self._client.with_options(max_retries=0)
        self._wait = wait

    def find(self, key: str) -> FineTuningJob | None:
        """The job of a recipe: one that goes on or ended well or was refused, else the newest that failed."""
        with _said("the account's jobs could not be listed"):
            jobs = [
                job
                for job in self._client.fine_tuning.jobs.list(limit=100, metadata={_KEY: key})
                if (job.metadata or {}).get(_KEY) == key  # a server may not know the filter
            ]
        return min(jobs, key=lambda job: (_may_be_tried_again(job), -job.created_at), default=None)

    def job(self, job_id: str) -> FineTuningJob:
        """A job as it stands."""
        with _said(f"job {job_id} could not be asked about"):
            return self._client.fine_tuning.jobs.retrieve(job_id)

    def change(self, job_id: str, what: Literal["cancel", "pause", "resume"]) -> FineTuningJob:
        """Cancel, pause or resume a job."""
        with _said(f"job {job_id}: the provider does not {what} it"):
            changed: FineTuningJob = getattr(self._client.fine_tuning.jobs, what)(job_id)
        return changed

    def start(self, job: ApiFinetune) -> FineTuningJob | None:
        """Find or start a job; None when the account may not start one more just now.

        Raises RunError where the provider will not take it.
        """
        found = self.find(job.key)
        if found is not None and not _may_be_tried_again(found):
            return found
        file_id = self._uploaded(job)
        processing, lost_replies = FileWait(self._client, file_id, self._wait), 0
        while True:
            try:
                return self._create(job, file_id)
            except openai.RateLimitError as error:
                if _is_about_money(error.code or "", message_of(error)):
                    raise RunError(f"{job.name}: {message_of(error)}") from None
                return None
            except openai.APIError as error:
                if isinstance(error, openai.APIStatusError):
                    with _said(f"{job.name}: the uploaded rows could not be asked about"):
                        waits = processing.helps(error)
                    if waits:
                        processing.wait(error)
                        continue
                if not isinstance(error, _LOST):
                    raise RunError(f"{job.name}: the provider does not take the job: {message_of(error)}") from None
                # The job may exist: only when the list does not show it is it asked for again.
                time.sleep(self._wait * 2**lost_replies)
                lost = self.find(job.key)
                if lost is not None and (found is None or lost.id != found.id):
                    return lost
                lost_replies += 1
                if lost_replies == _TRIES:
                    raise RunError(f"{job.name}: no finetuning job could be started: {error}") from None

    def _create(self, job: ApiFinetune, file_id: str) -> FineTuningJob:
        return self._once.fine_tuning.jobs.create(
            model=job.model,
            training_file=file_id,
            method={
                "type": "supervised",
                "supervised": {
                    "hyperparameters": {
                        "n_epochs": job.epochs,
                        "batch_size": job.batch_size,
                        "learning_rate_multiplier": job.learning_rate_multiplier,
                    }
                },
            },
            seed=job.seed,
            suffix=re.sub(r"[^a-z0-9]+", "-", f"sgtr-{job.name}".lower())[:40].strip("-"),
            metadata={_KEY: job.key},
        )

    def _uploaded(self, job: ApiFinetune) -> str:
        """Id of the rows as a file of the account; equal rows, as of several seeds, are uploaded once."""
        name, data = rows_as_file(job.records)
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "train.jsonl").write_bytes(data)
        with _said(f"{job.name}: the rows could not be uploaded"):
            return uploaded(self._client, name, data)


@contextlib.contextmanager
def _said(what: str) -> Iterator[None]:
    """Raises RunError, with what the provider says, for a request that failed for good."""
    try:
        yield
    except openai.APIError as error:
        raise RunError(f"{what}: {message_of(error)}") from None


class Jobs:
    """Jobs under way: started as the account allows, asked about until they end."""

    def __init__(self, provider: Provider, poll_seconds: float) -> None:
        self._provider, self._poll = provider, poll_seconds
        self._said: dict[str, str] = {}
        self._watched: set[str] = set()

    def wait_for_any(self, jobs: Sequence[ApiFinetune]) -> dict[str, Ended]:
        """Start what is not started and wait until at least one has ended; by key. Others stay under way.

        What is known of a job is kept in its folder's job.json, so that another process can go on from it.
        Raises InputError, before a job is started, for such a file that names no job.
        """
        for job in jobs:
            _known_id(job)  # before one is started
        ended: dict[str, Ended] = {}
        while True:
            for job in jobs:
                try:
                    found = self._now(job)
                except RunError as error:
                    ended[job.key] = Ended(_nothing(job), failed=str(error))
                    continue
                self._say(job.name, "waits for the account's limit of jobs" if found is None else found.status)
                if found is not None:
                    write_json(job.folder / "job.json", found.model_dump(mode="json"))
                    outcome = outcome_of(found)
                    if outcome is not None:
                        ended[job.key] = outcome
            if ended:
                return ended
            time.sleep(self._poll)

    def _now(self, job: ApiFinetune) -> FineTuningJob | None:
        known = _known_id(job)
        if known is not None:
            found = self._provider.job(known)
            # What failed or was cancelled while we watched is said; what had before is tried again.
            if job.key in self._watched or not _may_be_tried_again(found):
                self._watched.add(job.key)
                return found
        started = self._provider.start(job)
        if started is not None:
            self._watched.add(job.key)
        return started

    def _say(self, name: str, status: str) -> None:
        if self._said.get(name) != status:
            self._said[name] = status
            hint = "; `sgtr jobs RUN --resume NAME` goes on with it" if status == "paused" else ""
            print(f"finetuning job {name}: {status}{hint}", file=sys.stderr)


def _known_id(job: ApiFinetune) -> str | None:
    """The provider's id of a job that was started; None for one that was not. Raises InputError."""
    path = job.folder / "job.json"
    if not path.exists():
        return None
    mend = "Remove the file: a job that was started is found again at the provider, and is not paid for twice"
    try:
        known = read_json(path).get("id")
    except InputError as error:
        raise InputError(f"{error}. {mend}") from None
    if not isinstance(known, str) or not known:
        raise InputError(f"{path}: expected a job of the provider with its id, found {known!r:.60}. {mend}")
    return known


def outcome_of(job: FineTuningJob) -> Ended | None:
    """What became of a job, None while it goes on."""
    if job.status == "succeeded":
        if job.fine_tuned_model is None:
            return Ended(job, failed=f"job {job.id} succeeded without a model")
        return Ended(job, model=job.fine_tuned_model)
    if job.status == "cancelled":
        return Ended(job, failed=f"job {job.id} was cancelled; running again starts another")
    if job.status == "failed":
        why = job.error.message if job.error is not None and job.error.message else "no reason given"
        if _refused(job):
            return Ended(job, refused=why)
        return Ended(job, failed=f"job {job.id} failed: {why}")
    return None


def _refused(job: FineTuningJob) -> bool:
    """Whether the provider's safety check ended the job: by the error's code, else by its words."""
    error = job.error
    if error is None:
        return False
    code, words = error.code or "", error.message or ""
    if _SAFETY_CODE.search(code) and not _OTHER_CODE.search(code):
        return True
    if _OTHER_CODE.search(code) or _NO_ANSWER.search(words):
        return False
    says_no = _SAFETY_WORDS.search(words) and not _is_about_money(code, words)
    return bool(_VIOLATES.search(words) or says_no)


def _is_about_money(code: str, words: str) -> bool:
    """Whether the account may not spend more, which waiting does not change."""
    return bool(_MONEY.search(code.replace("_", " ")) or _MONEY.search(words))


def _may_be_tried_again(job: FineTuningJob) -> bool:
    return job.status == "cancelled" or (job.status == "failed" and not _refused(job))


def _nothing(job: ApiFinetune) -> FineTuningJob:
    """Stands for a job that never came to be."""
    return FineTuningJob.model_construct(id="", model=job.model, status="failed", seed=job.seed)
