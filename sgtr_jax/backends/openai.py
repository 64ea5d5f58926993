"""Finetuning behind OpenAI's API, or one that speaks its language: files, jobs, and never a job twice.

A job carries the fingerprint of what it is made from in its metadata, so the provider's own list is the registry:
whoever runs the same recipe again, after a kill or on another machine, finds the job instead of paying for a second.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import openai
from openai.types.fine_tuning import FineTuningJob

from sgtr_jax.data.records import Record
from sgtr_jax.errors import RunError
from sgtr_jax.files import write_json

_KEY = "sgtr_recipe"  # of a job's metadata
_TRIES = 5
# Of a failed job's error: the provider's safety check stopped it, before training or after. An outcome, not an error.
_REFUSAL = re.compile(r"unsafe|moderation|usage polic|safety|blocked", re.IGNORECASE)


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
        self._client = openai.OpenAI(base_url=base_url, max_retries=8)
        # A request that may have been carried out though its reply was lost is never simply sent again.
        self._once = self._client.with_options(max_retries=0)
        self._wait = wait

    def find(self, key: str) -> FineTuningJob | None:
        """The job of a recipe: one that goes on or ended well or was refused, else the newest that failed."""
        jobs = [
            job
            for job in self._client.fine_tuning.jobs.list(limit=100, metadata={_KEY: key})
            if (job.metadata or {}).get(_KEY) == key  # a server may not know the filter
        ]
        return min(jobs, key=lambda job: (_may_be_tried_again(job), -job.created_at), default=None)

    def job(self, job_id: str) -> FineTuningJob:
        """A job as it stands."""
        return self._client.fine_tuning.jobs.retrieve(job_id)

    def change(self, job_id: str, what: Literal["cancel", "pause", "resume"]) -> FineTuningJob:
        """Cancel, pause or resume a job."""
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
        for attempt in range(_TRIES):
            try:
                return self._create(job, file_id)
            except openai.RateLimitError as error:
                if error.code == "insufficient_quota":
                    raise RunError(f"{job.name}: {_message(error)}") from None
                return None
            except (openai.APIConnectionError, openai.InternalServerError) as error:
                # The job may exist: only when the list does not show it is it asked for again.
                time.sleep(self._wait * 2**attempt)
                lost = self.find(job.key)
                if lost is not None and (found is None or lost.id != found.id):
                    return lost
                if attempt == _TRIES - 1:
                    raise RunError(f"{job.name}: no finetuning job could be started: {error}") from None
            except openai.APIStatusError as error:
                raise RunError(f"{job.name}: the provider does not take the job: {_message(error)}") from None
        raise AssertionError("the loop returns or raises")

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
        lines = [json.dumps({"messages": list(record.messages)}, ensure_ascii=False) for record in job.records]
        data = ("\n".join(lines) + "\n").encode()
        job.folder.mkdir(parents=True, exist_ok=True)
        path = job.folder / "train.jsonl"
        path.write_bytes(data)
        name = f"sgtr-{hashlib.sha256(data).hexdigest()[:32]}.jsonl"
        for file in self._client.files.list(purpose="fine-tune"):
            if file.filename == name and file.bytes == len(data):
                return file.id
        try:
            return self._client.files.create(file=(name, data), purpose="fine-tune").id
        except openai.APIError as error:
            raise RunError(f"{job.name}: the rows could not be uploaded: {_message(error)}") from None


class Jobs:
    """Jobs under way: started as the account allows, asked about until they end."""

    def __init__(self, provider: Provider, poll_seconds: float) -> None:
        self._provider, self._poll = provider, poll_seconds
        self._said: dict[str, str] = {}
        self._watched: set[str] = set()

    def wait_for_any(self, jobs: Sequence[ApiFinetune]) -> dict[str, Ended]:
        """Start what is not started and wait until at least one has ended; by key. Others stay under way.

        What is known of a job is kept in its folder's job.json, so that another process can go on from it.
        """
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
        known = job.folder / "job.json"
        if known.exists():
            found = self._provider.job(FineTuningJob.model_validate_json(known.read_text()).id)
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
    error = job.error
    return error is not None and bool(_REFUSAL.search(f"{error.code} {error.message}"))


def _may_be_tried_again(job: FineTuningJob) -> bool:
    return job.status == "cancelled" or (job.status == "failed" and not _refused(job))


def _nothing(job: ApiFinetune) -> FineTuningJob:
    """Stands for a job that never came to be."""
    return FineTuningJob.model_construct(id="", model=job.model, status="failed", seed=job.seed)


def _message(error: openai.APIError) -> str:
    body: Any = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return str(said or error.message)
