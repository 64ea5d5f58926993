"""Files and jobs of an API account: what is not ready is waited for, what is broken is not used, and why it ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from api_account import Account
from api_server import ApiServer
from openai.types.fine_tuning import FineTuningJob

from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.finetune import uploads
from sgtr_jax.finetune.openai import ApiFinetune, Jobs, Provider, outcome_of
from sgtr_jax.finetune.uploads import FileWait

KEY = "sk-loopback-jobs"


def test_the_former_name_still_imports() -> None:
    from sgtr_jax.backends import openai as former

    assert former.Provider is Provider and former.ApiFinetune is ApiFinetune


@pytest.fixture
def account() -> Account:
    return Account(lambda prompt: "x")


@pytest.fixture
def provider(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = ApiServer(lambda prompt: "x", key=KEY, account=account)
    yield Provider(server.url, wait=0.01)
    server.close()


def job(folder: Path, key: str = "one", text: str = "yes") -> ApiFinetune:
    turns: tuple[Any, ...] = ({"role": "user", "content": "say"}, {"role": "assistant", "content": text})
    return ApiFinetune(key, key, "gpt-4.1-2025-04-14", [Record("a", turns)], 1, "auto", "auto", 0, folder)


def test_a_file_is_waited_for_while_it_is_processed(account: Account, provider: Provider, tmp_path: Path) -> None:
    account.file_states = ["uploaded", "uploaded", "uploaded", "processed"]
    started = provider.start(job(tmp_path))
    assert started is not None and started.training_file == "file-0" and len(account.files) == len(account.jobs) == 1


@pytest.mark.parametrize("said", ["it is not in the succeeded state: running", "it has not been imported yet"])
def test_the_state_of_the_file_counts_and_not_the_words(
    account: Account, provider: Provider, tmp_path: Path, said: str
) -> None:
    account.file_states, account.not_ready = ["pending", "pending", "pending", "pending", "processed"], said
    started = provider.start(job(tmp_path))
    assert started is not None and len(account.jobs) == 1


def test_a_file_that_failed_is_uploaded_anew(account: Account, provider: Provider, tmp_path: Path) -> None:
    provider.start(job(tmp_path))
    next(iter(account.files.values()))["status"] = "failed"
    provider.start(job(tmp_path, key="two"))
    assert len(account.files) == 2


def test_the_waiting_has_an_end(
    account: Account, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_MOST_SECONDS", 0.1)
    account.file_states = ["uploaded"] * 100
    with pytest.raises(RunError, match=r"not processed within .* has status uploaded"):
        provider.start(job(tmp_path))
    assert not account.jobs


def test_a_file_that_could_not_be_processed_is_said_and_not_used_again(
    account: Account, provider: Provider, tmp_path: Path
) -> None:
    account.file_states = ["uploaded", "error"]
    with pytest.raises(RunError, match="could not process the uploaded rows"):
        provider.start(job(tmp_path))
    again = provider.start(job(tmp_path))
    assert again is not None and again.training_file == "file-1"
    # A good file of the same rows serves another recipe; other rows need their own.
    other = provider.start(job(tmp_path, "two"))
    third = provider.start(job(tmp_path, "three", "no"))
    assert other is not None and other.training_file == "file-1"
    assert third is not None and third.training_file == "file-2"


def test_a_file_that_soon_expires_is_not_used_again(account: Account, provider: Provider, tmp_path: Path) -> None:
    provider.start(job(tmp_path))
    account.files["file-0"]["expires_at"] = 10
    started = provider.start(job(tmp_path, "two"))
    assert started is not None and started.training_file == "file-1"


@pytest.mark.parametrize(
    ("message", "param", "waits"),
    [
        ("File file-0 is still being processed and is not ready. Please try again later.", "training_file", True),
        ("The file is not ready", None, True),
        ("The model gpt-9 is not available", None, False),
        ("n_epochs must be at most 50", "n_epochs", False),
        ("Invalid file format: expected JSONL", "training_file", False),
    ],
)
def test_what_is_worth_waiting_for(
    account: Account, provider: Provider, tmp_path: Path, message: str, param: str | None, waits: bool
) -> None:
    provider.start(job(tmp_path))  # the file is processed
    client = openai.OpenAI(base_url=str(provider._client.base_url))
    body = {"message": message, "param": param, "code": None}
    response = client.files.with_raw_response.retrieve("file-0").http_response
    error = openai.BadRequestError(message, response=response, body=body)
    file = FileWait(client, "file-0", 0.01)
    file.helps(error)  # a file that became ready just after the refusal is tried once more
    assert file.helps(error) is waits


@pytest.mark.parametrize(
    ("code", "message", "is_refusal"),
    [
        ("unsafe_file", "The job failed due to an unsafe training file.", True),
        ("content_policy_violation", "It was ended.", True),
        ("invalid_training_file", "It was blocked: too many examples were flagged by our moderation API.", True),
        (None, "The model was blocked by our safety evaluations.", True),
        (None, "Rows violate our usage policies.", True),
        (None, "The file violates our usage policies on credit fraud.", True),
        (None, "The safety check could not be completed because of an internal error. Please retry.", False),
        (None, "Moderation service timed out", False),
        (None, "Spending cap reached; see usage policies", False),
        (None, "Your organization must be verified under our usage policies", False),
        ("billing_hard_limit_reached", "The job was blocked: the billing hard limit has been reached.", False),
        ("exceeded_quota", "This job would exceed your hard limit; for your safety it was blocked.", False),
        (None, "Blocked, because your account has no credit under our usage policies.", False),
        ("insufficient_quota", "You exceeded your current quota.", False),
        ("account_deactivated", "Your account does not meet our usage policies.", False),
        ("server_error", "The machine with the moderation model went away.", False),
        ("invalid_training_file", "Expected a messages key in line 3.", False),
        (None, "The resulting model did not pass our evaluations for harmful content.", True),
        (None, "The provided training data failed RAI checks for harm types: violence.", True),
        ("training_file_flagged", "See the dashboard.", True),
        ("usage_policies", "It was ended.", True),
        (None, "The training file has disallowed content.", True),
        ("policy", "Stopped: policy violation", True),
        (None, "Your card has expired, which violates our payment policy.", False),
        (None, "The file violates the data retention policy of your organization.", False),
        ("account_policy", "Your plan does not allow finetuning.", False),
        ("policy_not_found", "Nothing of that name.", False),
        ("invalid_training_file", "Line 3: content must be text; the content policy has examples.", False),
        ("invalid_training_file", "Access to the file was blocked by your storage.", False),
    ],
)
def test_only_a_safety_check_refuses(code: str | None, message: str, is_refusal: bool) -> None:
    error = {"code": code, "message": message, "param": "training_file"}
    ended = outcome_of(FineTuningJob.construct(id="j", status="failed", error=_error(error), fine_tuned_model=None))
    assert ended is not None and (ended.refused is not None) is is_refusal
    assert message in (ended.refused or ended.failed or "")


def _error(fields: dict[str, Any]) -> Any:
    from openai.types.fine_tuning.fine_tuning_job import Error

    return Error.construct(**fields)


def test_an_account_that_may_not_spend_is_said_at_once(
    account: Account, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = {"error": {"message": "The billing hard limit is reached.", "code": "billing_hard_limit_reached"}}
    monkeypatch.setattr(account, "_create", lambda body: (429, spent))
    with pytest.raises(RunError, match="billing hard limit"):
        provider.start(job(tmp_path))
    busy = {"error": {"message": "Too many jobs are running.", "code": "rate_limit_exceeded"}}
    monkeypatch.setattr(account, "_create", lambda body: (429, busy))
    assert provider.start(job(tmp_path)) is None


def test_a_wrong_key_and_no_key_are_said(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(provider._client.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(RunError, match="could not be listed: Incorrect API key"):
        Provider(url).start(job(tmp_path))
    with pytest.raises(RunError, match="could not be asked about"):
        Provider(url).job("ftjob-0")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        Provider(url)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"null", b'{"id": 3}', b'{"id": ""}', b'{"id": "ftjob-\xff"}', "{}".encode("utf-16")],
)
def test_a_file_that_names_no_job_is_said_before_a_job_is_started(
    account: Account, provider: Provider, tmp_path: Path, content: bytes
) -> None:
    good, damaged = job(tmp_path / "good", "good"), job(tmp_path / "damaged", "damaged")
    damaged.folder.mkdir()
    (damaged.folder / "job.json").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged/job\.json.*Remove the file"):
        Jobs(provider, 0.01).wait_for_any([good, damaged])
    assert not account.jobs and not account.files
