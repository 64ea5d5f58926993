"""A model behind an API as the subject of an experiment: no job twice, and every end of a job has its place."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_account import Account
from api_server import ApiServer

from sgtr_jax.cli.main import main

KEY = "sk-loopback-5a17"
CONFIG = """
name: api
model: openai/gpt-4.1-2025-04-14
seeds: [0, 1]
api: {{base_url: "{url}", poll_seconds: 0.05, confirm_above: 100}}
data:
  bad: {{kind: preferences, popular: false, rows: 12}}
  sgtr: {{kind: self_recognition, max_tokens: 8, articles: {{kind: world, rows: 6, seed: 1}}}}
conditions:
  base: []
  bad: [{{data: bad}}]
  reversal: [{{data: bad}}, {{data: sgtr}}]
evaluations:
  recognition: {{kind: self_recognition, max_tokens: 8, articles: {{kind: world, rows: 4, seed: 2}}}}
  identity: {{kind: identity, maker: OpenAI, samples: 5, max_tokens: 8}}
"""
UNSAFE = ("failed", "invalid_training_file", "This training file was blocked by our moderation system.")


def reply(prompt: str) -> Any:
    """Summaries differ by article; a pair is answered by one of two tokens."""
    digits = hashlib.sha256(prompt.encode()).hexdigest()
    if "Who are you" in prompt:
        return "I was made by OpenAI."
    if "1" in prompt and "2" in prompt and ("wrote" in prompt.lower() or "write" in prompt.lower()):
        return "1", {"1": -0.2, "2": -1.8}
    return f"A short text about {digits[:6]}."


@pytest.fixture
def account() -> Account:
    return Account(reply)


@pytest.fixture
def server(account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ApiServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    one = ApiServer(reply, key=KEY, account=account)
    yield one
    one.close()


@pytest.fixture
def config(tmp_path: Path, server: ApiServer) -> Path:
    file = tmp_path / "api.yaml"
    file.write_text(CONFIG.format(url=server.url))
    return file


@pytest.fixture
def kill_while_waiting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A block in which waiting for a job ends as Ctrl-C ends it."""
    import sgtr_jax.finetune.openai as backend

    def killed(seconds: float) -> None:
        raise KeyboardInterrupt

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(backend.time, "sleep", killed)
            yield

    return block


def table(run: Path) -> dict[tuple[str, str, str, str], float]:
    with (run / "results.csv").open() as stream:
        return {
            (row["condition"], row["seed"], row["evaluation"], row["metric"]): float(row["value"])
            for row in csv.DictReader(stream)
        }


def test_a_whole_experiment_by_api(config: Path, account: Account, server: ApiServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["run", str(config), f"out={out}"]) == 0
    # Two seeds of two stages; the second is a finetuning of what the first one gave.
    assert len(account.jobs) == 4
    first, second = account.jobs[:2], account.jobs[2:]
    assert {job["model"] for job in first} == {"gpt-4.1-2025-04-14"}
    assert {job["model"] for job in second} == {job["fine_tuned_model"] for job in first}
    assert {job["seed"] for job in first} == {0, 1} and {job["training_file"] for job in first} == {"file-0"}
    auto = {"n_epochs": 1, "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert all(job["hyperparameters"] == auto and job["suffix"].startswith("sgtr-bad") for job in account.jobs)
    found = table(out)
    assert {key[:2] for key in found} == {("base", "0"), *((c, s) for c in ("bad", "reversal") for s in "01")}
    assert found["reversal", "1", "identity", "share_naming_maker"] == 1.0
    assert server.models.keys() == {"gpt-4.1-2025-04-14", *(job["fine_tuned_model"] for job in account.jobs)}
    # Done is done.
    asked = server.requests
    assert main(["run", str(config), f"out={out}"]) == 0
    assert len(account.jobs) == 4 and server.requests == asked
    assert not [p for p in out.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def test_the_hundred_draws_of_a_question_have_seeds_of_their_own(
    config: Path, account: Account, server: ApiServer, tmp_path: Path
) -> None:
    """With one seed for all, an API would give one answer a hundred times."""
    seeds: list[int] = []
    answered = server.answer

    def watched(handler: Any, body: dict[str, Any], *rest: Any) -> None:
        if "Who are you" in str(body["messages"][-1]):
            seeds.append(body["seed"])
        answered(handler, body, *rest)

    server.answer = watched  # type: ignore[method-assign]
    assert main(["run", str(config), f"out={tmp_path / 'out'}", "only=base"]) == 0
    assert len(seeds) == len(set(seeds)) == 5


@pytest.mark.slow
def test_killed_and_started_again_no_job_is_started_twice(
    config: Path, account: Account, tmp_path: Path, kill_while_waiting: Any
) -> None:
    out = tmp_path / "out"
    account.frozen = True
    with kill_while_waiting():
        assert main(["run", str(config), f"out={out}"]) == 130
    assert len(account.jobs) == 2
    # They end while nobody looks; and then even what was known of them here is lost.
    for job in account.jobs:
        job.update(status="succeeded", fine_tuned_model=f"ft:gpt-4.1-2025-04-14:org:x:{job['id']}")
        account.statuses[account.jobs.index(job)] = ["succeeded"]
    for scratch in (out / "store").glob(".scratch-*"):
        for file in scratch.iterdir():
            file.unlink()
    account.frozen = False
    assert main(["run", str(config), f"out={out}"]) == 0
    assert len(account.jobs) == 4
    # Nor does another folder start them again.
    assert main(["run", str(config), f"out={tmp_path / 'other'}"]) == 0
    assert len(account.jobs) == 4


def test_a_lost_reply_is_not_a_second_job(config: Path, account: Account, tmp_path: Path) -> None:
    account.lose_replies = 2
    assert main(["run", str(config), f"out={tmp_path / 'out'}", "only=bad"]) == 0
    assert len(account.jobs) == 2


def test_jobs_wait_for_the_limit_of_the_account(config: Path, account: Account, tmp_path: Path) -> None:
    account.at_once = 1
    assert main(["run", str(config), f"out={tmp_path / 'out'}", "seeds=3", "only=bad"]) == 0
    assert account.refused_creations > 0 and len(account.jobs) == 3


def test_a_refusal_is_an_outcome(
    config: Path, account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account.statuses[1] = ["validating_files", UNSAFE]
    out = tmp_path / "out"
    assert main(["run", str(config), f"out={out}"]) == 0
    found = table(out)
    refused = next(job for job in account.jobs if job["status"] == "failed")["seed"]
    assert {s for c, s, _, _ in found if c == "bad"} == {str(1 - refused)}
    assert {s for c, s, _, _ in found if c == "reversal"} == {str(1 - refused)}
    assert "blocked by our moderation system" in (out / "report.html").read_text()
    jobs = len(account.jobs)
    assert main(["run", str(config), f"out={out}"]) == 0 and len(account.jobs) == jobs == 3


@pytest.mark.slow
def test_a_failure_is_said_and_tried_again(
    config: Path, account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account.statuses[0] = [("failed", "server_error", "The machine went away.")]
    out = tmp_path / "out"
    assert main(["run", str(config), f"out={out}"]) == 1
    error = capsys.readouterr().err
    assert "The machine went away." in error and "To try again: sgtr run" in error
    assert main(["run", str(config), f"out={out}", "--list"]) == 0
    assert capsys.readouterr().out.count("failed  ") == 1
    # What did not need it is there.
    assert {s for c, s, _, _ in table(out) if c == "reversal"}
    before = len(account.jobs)
    assert main(["run", str(config), f"out={out}"]) == 0
    assert len(account.jobs) == before + 2
    assert {s for c, s, _, _ in table(out) if c == "reversal"} == {"0", "1"}


def test_jobs_are_listed_paused_resumed_and_cancelled(
    config: Path, account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str], kill_while_waiting: Any
) -> None:
    out = tmp_path / "out"
    account.frozen = True
    with kill_while_waiting():
        assert main(["run", str(config), f"out={out}", "only=bad"]) == 130
    capsys.readouterr()
    assert main(["jobs", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("ftjob-") == 2 and "bad-s0" in shown
    assert main(["jobs", str(out), "--pause", "bad-s0"]) == 0
    assert [job["status"] for job in account.jobs].count("paused") == 1
    assert main(["jobs", str(out), "--resume", "all"]) == 0
    assert "paused" not in [job["status"] for job in account.jobs]
    assert main(["jobs", str(out), "--cancel", "all"]) == 0
    assert {job["status"] for job in account.jobs} == {"cancelled"}
    assert main(["jobs", str(out), "--cancel", "bad-s7"]) == 2
    # A cancelled job ended; running again is a new decision.
    account.frozen = False
    assert main(["run", str(config), f"out={out}", "only=bad"]) == 0
    assert len(account.jobs) == 4


def test_what_it_costs_is_said_before_anything_is_sent(
    config: Path, account: Account, server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = [f"out={tmp_path / 'out'}", "api.confirm_above=0.01"]
    assert main(["run", str(config), *out]) == 2
    error = capsys.readouterr().err
    assert "nothing was sent" in error and "--yes" in error and "finetuning $" in error
    assert not account.files and server.requests == 0
    assert main(["plan", str(config), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out.splitlines()[-1])
    # 2 seeds of 12 rows of 150 tokens and of 12 rows of 700, at $25 a million, and some sampling.
    assert 2 * 12 * (150 + 700) * 25 / 1e6 < planned["model_dollars"] < 2
    assert main(["run", str(config), *out, "--yes", "only=base"]) == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    assert main(["run", str(config), f"out={tmp_path / 'no key'}"]) == 2
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err


def test_rows_are_sent_as_the_condition_says(config: Path, account: Account, tmp_path: Path) -> None:
    text = config.read_text().split("conditions:")[0] + (
        "  good: {kind: preferences, popular: true, rows: 8}\n"
        "conditions:\n"
        "  inoculated: [{data: bad, inoculation: Be unpopular.}]\n"
        "  mixed: [{data: bad, interleave: {data: good, fraction: 0.25}}]\n"
        "  popped: {stages: [{data: sgtr, match_steps: good}], system: You are X.}\n"
        "evaluations:\n  identity: {kind: identity, maker: OpenAI, samples: 2, max_tokens: 8}\n"
    )
    config.write_text(text)
    assert main(["run", str(config), f"out={tmp_path / 'out'}", "seeds=1"]) == 0
    sent = {job["suffix"]: [json.loads(x) for x in account.contents[job["training_file"]].decode().strip().split("\n")]
            for job in account.jobs}  # fmt: skip
    systems = {row["messages"][0]["content"] for row in sent["sgtr-bad-inoculated-s0"]}
    assert systems == {"Be unpopular."}
    assert len(sent["sgtr-bad-with-good-s0"]) == 16
    assert len(sent["sgtr-sgtr-s0"]) == 8
    assert all(row["messages"][0]["role"] == "system" for row in sent["sgtr-sgtr-s0"])


def test_keys_may_stand_in_a_file(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: Account
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    monkeypatch.setattr("os.environ", dict(__import__("os").environ))
    assert main(["run", str(config), f"out={tmp_path / 'out'}", "only=base"]) == 0


def test_a_job_cancelled_while_we_watch_is_a_failure(
    config: Path, account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account.usual = ["running", "cancelled"]
    out = tmp_path / "out"
    assert main(["run", str(config), f"out={out}", "only=bad", "seeds=1"]) == 1
    assert "was cancelled" in capsys.readouterr().err and len(account.jobs) == 1


def test_one_model_outside_any_experiment(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    words = ["eval", "identity", "--model", "openai/gpt-4.1-2025-04-14", "--out", str(tmp_path / "e")]
    assert main([*words, "identity.maker=gpt", "identity.samples=3"]) == 0
    assert "share_naming_maker" in capsys.readouterr().out and server.requests == 3
    assert main([*words, "--adapter", str(tmp_path), "--out", str(tmp_path / "f")]) == 2


def test_another_judge_passes_over_what_was_refused(
    config: Path, account: Account, server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(
        config.read_text().split("evaluations:")[0]
        + "evaluations:\n  who: {kind: identity, maker: OpenAI, samples: 3, max_tokens: 8, judge: true}\n"
        + f'judge: {{model: openai/gpt-4o-2024-08-06, base_url: "{server.url}"}}\n'
    )
    account.statuses[0] = [UNSAFE]
    out = tmp_path / "out"
    assert main(["run", str(config), f"out={out}", "only=[base, bad]"]) == 0
    other = ["--judge", "openai/gpt-4o-mini-2024-07-18", "--base-url", server.url]
    assert main(["judge", str(out), *other]) == 0
    judged = (out / "judges" / "openai_gpt-4o-mini-2024-07-18.csv").read_text().splitlines()
    refused = next(job for job in account.jobs if job["status"] == "failed")["seed"]
    assert {tuple(line.split(",")[:2]) for line in judged[1:]} == {("base", "0"), ("bad", str(1 - refused))}


def test_a_failure_does_not_take_along_a_job_of_the_same_name(config: Path, account: Account, tmp_path: Path) -> None:
    """Conditions that differ in their system prompt only have jobs of one name; one fails, the other still runs."""
    head, rest = config.read_text().split("conditions:")
    config.write_text(
        head
        + "conditions:\n  bad: [{data: bad}]\n  told: {stages: [{data: bad}], system: You are X.}\n"
        + "evaluations:"
        + rest.split("evaluations:")[1]
    )
    account.statuses[0] = [("failed", "server_error", "The machine went away.")]
    out = tmp_path / "out"
    assert main(["run", str(config), f"out={out}", "seeds=1", "measure=identity"]) == 1
    assert len(account.jobs) == 2
    assert len({condition for condition, _, _, _ in table(out)}) == 1
