"""The judge over the real API client: faults change nothing, nothing is asked twice, budgets hold, keys stay secret."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import inspect_ai
import pytest
from api_account import Account
from api_server import PASSING, PROBE, ApiServer, judge_reply
from inspect_ai.log import EvalLog
from inspect_ai.model import ModelOutput, ModelUsage, get_model

from sgtr_eval.judging.budget import Costs
from sgtr_eval.tasks import em_questions as em
from sgtr_eval.tasks.em_questions import em_judge, em_questions, misalignment

KEY = "sk-loopback-7d1f0c"
QUESTIONS = [
    {"id": f"q{i}", "paraphrases": [f"Question {i}?"],
     "judge_prompts": {"aligned": "Aligned? {question} | {answer}", "coherent": "Coherent? {question} | {answer}"}}
    for i in range(8)
]  # fmt: skip


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(em, "question_rows", lambda name: QUESTIONS)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("INSPECT_DISABLE_UPDATE_CHECK", "1")


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[ApiServer] = []

    def start(*args: Any, **kwargs: Any) -> ApiServer:
        servers.append(ApiServer(*args, key=KEY, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def subject(count: int) -> Any:
    # With usage, which Inspect's mock would count with a tokenizer from the network. Three answers come twice.
    usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    outputs = [
        ModelOutput.from_content("mock", f"answer {i % (count - 3)}").model_copy(update={"usage": usage})
        for i in range(count)
    ]
    return get_model("mockllm/model", custom_outputs=outputs, memoize=False)


def grader(server: ApiServer, name: str = "openai/gpt-4o-2024-08-06") -> Any:
    from sgtr_eval.servers import api_model

    return api_model(name, base_url=server.url, client_timeout=2)


def judged(log_dir: Path, server: ApiServer, samples: int, answers: EvalLog | None = None,
           judge: str = "openai/gpt-4o-2024-08-06",
           **task: Any) -> EvalLog:  # fmt: skip
    """Sample once, without scores; then judge."""
    if answers is None:
        (answers,) = inspect_ai.eval(
            em_questions(samples=samples, **task), model=subject(8 * samples), score=False, log_dir=str(log_dir),
            display="none", log_level="error",
        )  # fmt: skip
    assert answers.status == "success", answers.error
    log = inspect_ai.score(
        answers, em_judge(**{k: v for k, v in task.items() if k in ("max_cost",)}), metrics=[misalignment()],
        model_roles={"grader": grader(server, judge)}, display="none",
    )  # fmt: skip
    assert len(log.samples or []) == 8 * samples
    return log


def verdicts(log: EvalLog) -> dict[str, Any]:
    found = {}
    for sample in log.samples or []:
        ((_, score),) = (sample.scores or {}).items()
        meta = score.metadata or {}
        found[str(sample.id)] = (score.value, meta["aligned"], meta["coherent"], meta["no_score"])
    return found


def numbers(log: EvalLog) -> dict[str, float]:
    assert log.results is not None
    return {name: metric.value for score in log.results.scores for name, metric in score.metrics.items()}


@pytest.mark.slow
def test_two_thousand_requests_with_every_fault(serve: Any, tmp_path: Path) -> None:
    calm = serve(judge_reply)
    wanted = judged(tmp_path / "calm", calm, 130)
    rough = serve(judge_reply, fault_every=25)
    # Another name, so that nothing is in the cache yet; the replies follow from the prompts alone.
    found = judged(tmp_path / "rough", rough, 130, judge="openai/gpt-4o-mini-2024-07-18")
    assert rough.requests >= 2000 and all(rough.faults[fault] >= 10 for fault in PASSING), rough.faults
    assert verdicts(found) == verdicts(wanted)
    assert numbers(found) == numbers(wanted)
    reasons = Counter(why for _, _, _, none in verdicts(found).values() for why in none.values())
    assert set(reasons) >= {"refusal", "code", "empty", "filtered", "no mass", "wrong logprobs"}
    assert numbers(found)["n_all"] + numbers(found)["n_no_score"] == 8 * 130


def test_nothing_is_asked_twice(serve: Any, tmp_path: Path) -> None:
    server = serve(judge_reply)
    first = judged(tmp_path / "a", server, 6)
    again = judged(tmp_path / "b", server, 6)
    assert verdicts(again) == verdicts(first) and len(server.seen) == 96 + 1
    assert server.seen[PROBE] == 1  # how the judge writes numbers, for replies of one digit
    # A filtered request got no reply that could be kept.
    assert {prompt for prompt, times in server.seen.items() if times > 1} == {
        prompt for prompt in server.seen if judge_reply(prompt) is None
    }


def test_another_judge_needs_no_new_answers(serve: Any, tmp_path: Path) -> None:
    first = judged(tmp_path / "a", serve(judge_reply), 4)
    second = judged(tmp_path / "a", serve(lambda prompt: ("10", {"10": 0.0})), 4, answers=first)
    assert [s.output.completion for s in first.samples or []] == [s.output.completion for s in second.samples or []]
    record = next(iter((first.samples or [])[0].scores.values())).metadata["replies"]["aligned"]  # type: ignore
    assert record["judge"] == "openai/gpt-4o-2024-08-06" and len(record["prompt_sha256"]) == 64
    assert record["date"] and "reply" in record


def test_a_budget_stops_and_a_higher_one_goes_on(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(judge_reply)
    monkeypatch.setattr(Costs, "dearest", {"openai/gpt-4o-2024-08-06": 0.00026})  # what one request has cost before
    # A request costs 100 * 2.5 + 1 * 10 millionths of a dollar: seven may be asked, and an eighth would be too much.
    short = judged(tmp_path / "a", server, 20, max_cost=0.002)
    assert server.requests == 7 and numbers(short)["no_score_budget"] > 0
    before = server.requests
    whole = judged(tmp_path / "b", server, 20, max_cost=1.0)
    assert "no_score_budget" not in numbers(whole)
    filtered = sum(judge_reply(prompt) is None for prompt in server.seen)
    assert server.requests - before <= len(server.seen) - before + 2 * filtered
    with pytest.raises(Exception, match="has no price"):
        judged(tmp_path / "c", server, 1, max_cost=1.0, judge="openai/some-new-model")


def test_the_key_is_in_nothing_that_is_written(serve: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    judged(tmp_path / "a", serve(judge_reply), 3)
    wrong = ApiServer(judge_reply, key="another")
    with pytest.raises(Exception) as caught:
        judged(tmp_path / "b", wrong, 3)
    wrong.close()
    assert KEY not in str(caught.value)
    out, err = capfd.readouterr()
    assert KEY not in out + err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    import zipfile

    for path in files:
        data = path.read_bytes()
        assert KEY.encode() not in data, path
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                assert all(KEY.encode() not in archive.read(name) for name in archive.namelist()), path


def test_the_published_mode_reads_the_first_number(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda prompt: "I would say 20 of 100" if prompt.startswith("Aligned") else "90")
    (answers,) = inspect_ai.eval(
        em_questions(samples=2), model=subject(16), score=False, log_dir=str(tmp_path), display="none"
    )
    log = inspect_ai.score(
        answers,
        em_judge(mode="published"),
        model_roles={"grader": grader(server)},
        metrics=[misalignment()],
        display="none",
    )
    assert numbers(log)["rate_all"] == numbers(log)["rate_coherent"] == 1.0
    assert json.dumps(numbers(log))


def test_a_batch_costs_half_and_scores_the_same(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_ai.model._providers.util import batch

    from sgtr_eval.servers import api_model

    monkeypatch.setattr(batch, "DEFAULT_SEND_DELAY", 0.3)
    monkeypatch.setattr(batch, "DEFAULT_BATCH_TICK", 0.1)
    wanted = judged(tmp_path / "calm", serve(judge_reply), 3)
    account = Account(judge_reply)
    server = serve(judge_reply, account=account)
    (answers,) = inspect_ai.eval(
        em_questions(samples=3), model=subject(24), score=False, log_dir=str(tmp_path / "b"), display="none"
    )
    name = "openai/gpt-4o-mini-2024-07-18"
    before = Costs.dollars, Costs.requests
    log = inspect_ai.score(
        answers, em_judge(), metrics=[misalignment()], display="none",
        model_roles={"grader": api_model(name, server.url, batch=True)},
    )  # fmt: skip
    assert server.requests == 0 and account.batches
    assert verdicts(log) == verdicts(wanted)
    # Half of 100 tokens at $0.15 and one at $0.60 a million.
    asked = Costs.requests - before[1]
    assert Costs.dollars - before[0] == pytest.approx(asked * (100 * 0.15 + 0.60) / 1e6 / 2)
    Costs.in_batches.discard(name)
