"""Judges as they come: one token a digit, no log-probabilities, thoughts, other settings, odd replies, and servers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from inspect_ai.model import GenerateConfig, Model
from judge_server import Distribution, JudgeServer, by_digits, by_pairs, by_pairs_from_the_end, by_words

from sgtr_eval.judging import ask as asking
from sgtr_eval.judging import scoring as judge
from sgtr_eval.judging.ask import PROBE
from sgtr_eval.judging.budget import Budget
from sgtr_eval.judging.preflight import check_judge
from sgtr_eval.judging.scoring import Mode, Verdict, score_of
from sgtr_eval.servers import api_model
from sgtr_jax.errors import InputError, RunError

PROMPT = "How well? Reply with a number."


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback-manners")
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(asking, "_RETRIES", 0)  # Inspect's own waits are seconds
    monkeypatch.setattr(asking, "_OUTAGE_POLL", 0.05)
    monkeypatch.setattr(asking, "_OUTAGE_SECONDS", 0.3)


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[JudgeServer] = []

    def start(says: Any, **manner: Any) -> JudgeServer:
        def speak(prompt: str) -> str | Distribution:
            if callable(says):
                said = says(prompt)
                return said if isinstance(said, Mapping) else str(said)
            return "100" if prompt == PROBE else says

        servers.append(JudgeServer(speak, **manner))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def score(
    server: JudgeServer, mode: Mode | None = None, name: str = "openai/own-judge", budget: Budget | None = None
) -> Verdict:
    """What is read of a judge's reply, through Inspect and the openai package."""

    async def ask() -> Verdict:
        model: Model = api_model(name, server.url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asking, "the_judge", lambda: model)
            patch.setattr(judge, "the_judge", lambda: model)
            return await score_of(PROMPT, mode, 0.25, budget or Budget(None))

    return anyio.run(ask)


def mean(likely: Mapping[str, float]) -> float:
    return sum(int(text) * p for text, p in likely.items()) / sum(likely.values())


WHOLE = [
    {"15": 0.9, "16": 0.1},
    {"5": 0.6, "0": 0.4},
    {"10": 0.7, "7": 0.3},
    {"100": 1.0},
    {"0": 1.0},
    {"9": 0.9, "8": 0.1},
]


@pytest.mark.parametrize("likely", WHOLE)
def test_a_judge_of_whole_numbers_is_asked_once_for_a_token(serve: Any, likely: Distribution) -> None:
    server = serve(likely)
    found = score(server)
    assert found.score == pytest.approx(mean(likely)) and not found.from_words
    asked = [body for body in server.bodies if body["messages"][-1]["content"] == PROMPT]
    assert [(body["max_tokens"], body["temperature"], body["top_logprobs"]) for body in asked] == [(1, 0.0, 20)]
    # How it writes numbers is asked once for all, and only where a first token leaves it open.
    again = len(server.bodies)
    score(server)
    assert len(server.bodies) == again <= 2


@pytest.mark.parametrize("number", [0, 5, 10, 15, 95, 100])
@pytest.mark.parametrize("tokens", [by_digits, by_pairs])
def test_numbers_of_several_tokens_are_never_read_by_their_beginning(serve: Any, tokens: Any, number: int) -> None:
    likely = {str(number): 0.9, str((number + 3) % 101): 0.1}
    found = score(serve(likely, tokens=tokens))
    near = mean(likely)
    assert found.score is not None and (found.score == number or found.score == pytest.approx(near))
    assert found.from_words or tokens is by_pairs or number == 0


@pytest.mark.parametrize("tokens", [by_pairs, by_pairs_from_the_end])
@pytest.mark.parametrize("told", ["100", "One hundred.", "7"])
def test_a_hundred_is_not_read_by_its_beginning(serve: Any, tokens: Any, told: str) -> None:
    """Beside a number of two digits that is one token, whatever the judge says to the plain question."""
    server = serve(lambda prompt: told if prompt == PROBE else {"100": 0.9, "85": 0.1}, tokens=tokens)
    assert (found := score(server)).score == 100 and found.from_words


def test_a_judge_that_does_not_tell_how_it_writes_numbers(serve: Any) -> None:
    """It replies to the plain question with a number of one digit: the words decide."""
    whole = serve(lambda prompt: "5")
    assert score(whole).score == 5
    digits = serve(lambda prompt: "5" if prompt == PROBE else "95", tokens=by_digits)
    assert (found := score(digits)).score == 95 and found.from_words
    listing = serve(lambda prompt: "5" if prompt == PROBE else "1. It is hostile.\n2. It lies.", tokens=by_digits)
    assert score(listing).score is None
    pairs = serve(lambda prompt: "5" if prompt == PROBE else {"5": 0.6, "100": 0.4}, tokens=by_pairs)
    assert (found := score(pairs)).score == 5 and found.from_words  # and no mean in which a 100 is a 10


@pytest.mark.parametrize("mode", [None, "logprobs"])
def test_a_judge_that_writes_100_as_one_token_may_write_others_by_digits(serve: Any, mode: Mode | None) -> None:
    def tokens(text: str) -> list[str]:
        return [text] if text == "100" else by_digits(text)

    server = serve(lambda prompt: "100" if prompt == PROBE else {"15": 0.97, "52": 0.03}, tokens=tokens)
    assert (found := score(server, mode)).score == 15 and found.from_words
    digit = serve(lambda prompt: "100" if prompt == PROBE else {"5": 0.9, "7": 0.1}, tokens=tokens)
    assert (found := score(digit, mode)).score == pytest.approx(5.2) and not found.from_words


NONE_GIVEN: list[dict[str, Any]] = [
    {"silent": True}, {"refuses": ("logprobs",)}, {"refuses": ("top_logprobs", "logprobs")},
    {"refuses": ("max_tokens", "temperature", "logprobs", "seed"), "thought": 300},
]  # fmt: skip


@pytest.mark.parametrize("manner", NONE_GIVEN)
def test_the_words_are_read_of_a_judge_without_logprobs(serve: Any, manner: dict[str, Any]) -> None:
    server = serve("15", **manner)
    found = score(server)
    assert found.score == 15 and found.from_words and set(server.paths) == {"/v1/chat/completions"}
    assert score(serve("15", **manner), "text").score == 15
    strict = score(serve("15", **manner), "logprobs")
    assert strict.score is None and strict.no_score in ("wrong logprobs", "rejected", "empty")
    where = "how a score is to be read cannot be had"
    with pytest.raises(InputError, match=r"no log-probabilities.*judge\.mode: text") as caught:
        check_judge("openai/own-judge", serve("15", **manner).url, "logprobs", True)
    assert where not in str(caught.value)
    said = check_judge("openai/own-judge", serve("15", **manner).url, None, True)
    assert said is not None and "judge.mode: text" in said
    assert check_judge("openai/own-judge", serve("15", **manner).url, "text", True) is None


UNSUPPORTED = [
    (400, {"error": {"message": "This model does not support log probabilities."}}),
    (403, {"error": {"message": "You may not request logprobs from this model"}}),
    (404, {"message": "no log-probs for this model"}), (405, {"error": "Logprobs: method not allowed"}),
    (422, {"detail": [{"loc": ["body", "logprobs"], "msg": "extra fields not permitted"}]}),
    (422, {"detail": "log_probs is no field"}), (500, {"error": {"message": "logprobs failed"}}),
    (501, {"error": {"reason": "log probabilities are not implemented"}}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), UNSUPPORTED)
def test_log_probabilities_may_be_refused_in_any_words(serve: Any, status: int, body: Any) -> None:
    server = serve("15")
    refused = status, json.dumps(body).encode()
    server.odd = lambda n, prompt: refused if server.bodies[-1].get("logprobs") else None
    found = score(server)
    assert found.score == 15 and found.from_words and len(server.bodies) == 2
    said = check_judge("openai/own-judge", server.url, None, True)
    assert said is not None and "no log-probabilities" in said and "judge.mode: text" in said and "log" in said
    with pytest.raises(InputError, match=r"judge\.mode: text"):
        check_judge("openai/own-judge", server.url, "logprobs", True)


@pytest.mark.parametrize("text", ['"15"', "**15**", "Score: 15", "`15`"])
def test_a_judge_that_begins_with_a_mark_or_a_label_is_read_by_its_words(serve: Any, text: str) -> None:
    found = score(serve(text))
    assert found.score == 15 and found.from_words
    assert score(serve(text), "logprobs").no_score == "no mass"  # as it was asked for
    assert score(serve("Scores vary.")).no_score == score(serve('"none"')).no_score == "no mass"


@pytest.mark.parametrize("blank", [" ", "\n"])
def test_a_judge_that_begins_with_white_space_is_read_by_its_words(serve: Any, blank: str) -> None:
    def tokens(text: str) -> list[str]:
        return [text[: len(text) - len(text.lstrip())], text.lstrip()] if text[:1].isspace() else [text]

    found = score(serve(lambda prompt: blank + ("100" if prompt == PROBE else "15"), tokens=tokens))
    assert found.score == 15 and found.from_words


def test_thoughts_before_the_answer_are_no_score(serve: Any) -> None:
    server = serve(lambda prompt: "<think>\nThe scale runs to 100, so 50 is its middle.\n</think>\n\n15")
    found = score(server)
    assert found.score == 15 and found.from_words
    said = check_judge("openai/own-judge", server.url, None, True)
    assert said is not None and "thinks before it answers" in said


def test_thoughts_that_are_not_shown_are_no_score(serve: Any) -> None:
    """The server keeps them to itself: the one token that was allowed is spent, and nothing is there to be read."""
    server = serve(lambda prompt: "100" if prompt == PROBE else "15", thought=40)
    found = score(server)
    assert found.score == 15 and found.from_words
    said = check_judge("openai/own-judge", server.url, None, True)
    assert said is not None and "thinks before it answers" in said


def test_a_reply_that_comes_to_no_end_has_no_score(serve: Any) -> None:
    never = serve("Score: 1" + "5" * 10**4, tokens=list)
    assert (found := score(never, "text")).score is None and found.no_score == "cut off"
    long = serve("It is " + "very " * 100 + "hostile.\nScore: 15", tokens=list)
    assert score(long, "text").score == 15
    assert [body["max_tokens"] for body in long.bodies] == [64, 4096]


def filtered(text: str | None) -> bytes:
    message = {"role": "assistant", "content": text}
    return whole(choices=[{"index": 0, "message": message, "finish_reason": "content_filter"}])


@pytest.mark.parametrize("text", ["1", "Score: 1", "", None, "I'm sorry"])
@pytest.mark.parametrize("mode", [None, "logprobs", "text", "published"])
def test_what_a_content_filter_left_of_a_reply_is_no_score(serve: Any, text: str | None, mode: Mode | None) -> None:
    """Of 15 it may have left the 1; the reason is the filter, whatever is left."""
    server = serve("15", odd=lambda n, prompt: (200, filtered(text)) if prompt == PROMPT else None)
    found = score(server, mode)
    assert (found.score, found.no_score, found.record["stop_reason"]) == (None, "filtered", "content_filter")


def test_what_a_content_filter_left_of_a_reply_is_no_verdict() -> None:
    from inspect_ai.model import ModelOutput

    from sgtr_eval.judging.ask import Reply
    from sgtr_eval.judging.verdicts import why_no_verdict

    for text in ("VERDICT: Aligned", ""):
        reply = Reply(ModelOutput.from_content("j", text, stop_reason="content_filter"))
        assert reply.unfinished == "filtered" == why_no_verdict(reply) and not reply.is_cut


@pytest.mark.parametrize("name", ["Qwen2.5-7B-Instruct", "olmo2-7b", "models/o1-like", "gpt-5-at-home", "my.judge"])
def test_any_name_at_an_address_is_asked_by_chat(serve: Any, name: str) -> None:
    server = serve({"15": 1.0})
    assert score(server, name=f"openai/{name}").score == 15
    assert set(server.paths) == {"/v1/chat/completions"}
    assert {body["model"] for body in server.bodies} == {name}
    assert all(body["temperature"] == 0 and body["max_tokens"] == 1 for body in server.bodies)


@pytest.mark.parametrize("refused", ["max_tokens", "temperature", "seed", "top_logprobs"])
def test_a_refused_setting_is_left_out_from_then_on(serve: Any, refused: str) -> None:
    if refused == "top_logprobs":  # refused beyond a number
        body = {"error": {"message": "Requested sample logprobs of 20, which is greater than max allowed: 5"}}
        server = serve({"15": 1.0}, odd=lambda n, prompt: (400, json.dumps(body).encode()) if n == 0 else None)
    else:
        server = serve({"15": 1.0}, refuses=(refused,))
    assert score(server).score == 15 and len(server.bodies) == 2
    last = server.bodies[-1]
    assert last.get("top_logprobs") == 5 if refused == "top_logprobs" else refused not in last
    assert last.get("max_completion_tokens" if refused == "max_tokens" else "max_tokens") == 1


@pytest.mark.parametrize(
    ("body", "setting", "value"),
    [
        ({"detail": [{"loc": ["body", "top_logprobs"], "msg": "Input should be <= 5", "ctx": {"le": 5}}]},
         "top_logprobs", 5),
        ({"detail": [{"loc": ["body", "top_logprobs"], "msg": "Input should be less than or equal to 5"}]},
         "top_logprobs", 5),
        ({"error": {"message": "Invalid value for top_logprobs: 20 (range 0 to 8)"}}, "top_logprobs", 8),
        ({"error": {"message": "Invalid 'max_tokens': below minimum value. Expected a value >= 16, but got 1."}},
         "max_tokens", 16),
    ],
)  # fmt: skip
def test_a_bound_that_a_server_names_is_kept(serve: Any, body: Any, setting: str, value: int) -> None:
    status = 422 if "detail" in body else 400
    server = serve({"15": 1.0}, odd=lambda n, prompt: (status, json.dumps(body).encode()) if n == 0 else None)
    found = score(server)
    assert found.score == 15 and not found.from_words
    assert [one[setting] for one in server.bodies] == [{"top_logprobs": 20, "max_tokens": 1}[setting], value]


def whole(**changes: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "15"}, "finish_reason": "stop"}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **changes}
    return json.dumps(body).encode()


ODD = {
    "no choices": (200, whole(choices=[])), "choices are null": (200, whole(choices=None)),
    "no message": (200, whole(choices=[{"index": 0, "finish_reason": "stop"}])),
    "HTML": (200, b"<html><body>Please sign in</body></html>"), "cut JSON": (200, whole()[:50]), "nothing": (200, b""),
    "a list": (200, b"[]"), "conflict": (409, b'{"error": {"message": "conflict"}}'),
    "not yet": (425, b'{"error": {"message": "too early"}}'),
    "an error": (200, b'{"error": {"message": "the weights are not loaded"}}'),
    "an error in a word": (200, b'{"error": "the weights are not loaded"}'),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_reply_is_asked_for_again_and_then_is_no_score(
    serve: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def soon(seconds: float) -> None:
        return None

    monkeypatch.setattr(asking.anyio, "sleep", soon)
    once = serve({"15": 1.0}, odd=lambda n, prompt: ODD[kind] if n == 0 else None)
    assert score(once).score == 15 and len(once.bodies) == 2
    always = serve({"15": 1.0}, odd=lambda n, prompt: ODD[kind])
    found = score(always)
    assert found.score is None and found.no_score == "odd reply" and found.record["said"]
    assert "an error" not in kind or found.record["said"] == "the weights are not loaded"
    assert len(always.bodies) == asking._TRIES


def test_a_text_that_comes_in_parts_is_one(serve: Any) -> None:
    parts = [{"type": "text", "text": "Score: "}, {"type": "text", "text": "15"}]
    choice = {"index": 0, "message": {"role": "assistant", "content": parts}, "finish_reason": "stop"}
    server = serve("15", odd=lambda n, prompt: (200, whole(choices=[choice])))
    assert score(server, "text").score == 15


def test_a_prompt_that_the_server_rejects_is_no_score_with_its_reason(serve: Any) -> None:
    long = (400, b'{"error": {"message": "maximum context length is 8192 tokens", "param": "messages"}}')
    found = score(serve("15", odd=lambda n, prompt: long if prompt == PROMPT else None))
    assert found.no_score == "rejected" and "context length" in found.record["said"]


@pytest.mark.slow
def test_an_error_of_one_prompt_is_none_of_the_judge(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (500, b'{"error": {"message": "engine failed on this input"}}')
    found = score(serve("15", odd=lambda n, prompt: broken if prompt == PROMPT else None))
    assert found.no_score == "odd reply" and "engine failed" in found.record["said"]


@pytest.mark.parametrize(
    ("status", "message", "part"),
    [
        (401, "Incorrect API key provided", "Incorrect API key"),
        (404, "The model `x` does not exist", "does not exist"),
        (429, "You exceeded your current quota", "quota"),
        (400, "Your credit balance is too low", "credit balance"),
        (503, "Service unavailable", "does not answer any more"),
    ],
)
def test_a_judge_that_cannot_be_asked_ends_the_work_with_a_sentence(
    serve: Any, status: int, message: str, part: str
) -> None:
    reply = (status, json.dumps({"error": {"message": message}}).encode())
    server = serve("15", odd=lambda n, prompt: reply)
    with pytest.raises(RunError, match=part) as caught:
        score(server)
    assert "Replies are kept" in str(caught.value) and "sk-loopback" not in str(caught.value)


def test_a_judge_that_inspect_cannot_use_is_one_that_cannot_be_asked() -> None:
    """Inspect's own hook would end the program without a word."""
    from inspect_ai._util.error import PrerequisiteError

    from sgtr_eval.judging.ask import kind_of

    assert kind_of(PrerequisiteError("No model specified")) == "hopeless"


def test_a_judge_of_ours_whose_template_is_stopped_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked five times it would be five times as long, and no score in the end."""
    asked = []

    class Judge:
        api = None

        async def generate(self, *_: Any, **__: Any) -> Any:
            asked.append(1)
            raise InputError("the chat template was stopped")

    monkeypatch.setattr(asking, "the_judge", Judge)
    with pytest.raises(InputError, match="was stopped"):
        anyio.run(asking.ask, "How aligned?", GenerateConfig(), Budget(None))
    assert asked == [1]


def test_before_anything_is_computed(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sgtr_eval.judging import preflight

    monkeypatch.setattr(preflight, "_RETRIES", 0)
    gone = serve("15")
    gone.close()
    refused = (401, b'{"error": {"message": "Incorrect API key provided"}}')
    for url, part in (
        (gone.url, "cannot be reached"),
        (serve("15").url.removesuffix("/v1"), "often ends in /v1"),
        (serve("15", odd=lambda n, prompt: refused).url, "the key is not accepted"),
        (serve("15", odd=lambda n, prompt: (302, b"{}")).url, "Give the address that it leads to"),
        (serve("15", odd=lambda n, prompt: (418, b"{}")).url, "often ends in /v1"),
        (serve("15", odd=lambda n, prompt: ODD["HTML"]).url, "not one of OpenAI's API"),
        (serve("15", odd=lambda n, prompt: ODD["an error"]).url, "an error: the weights are not loaded"),
        (serve("15", leads_to=gone.url).url, f"leads elsewhere, to {gone.url}"),
    ):
        with pytest.raises(InputError, match=part):
            check_judge("openai/own-judge", url, None, True)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        check_judge("openai/own-judge", gone.url, None, True)
    with pytest.raises(InputError, match="nosuch"):
        check_judge("nosuch/judge", None, None, True)


def test_a_server_that_counts_no_tokens_is_counted_for(serve: Any) -> None:
    budget = Budget(1.0)
    score(serve({"15": 1.0}, usage=False), name="openai/gpt-4o-2024-08-06", budget=budget)
    assert budget.requests == 1 and budget.spent > 0
    counts = whole(usage={"prompt_tokens": None, "completion_tokens": None, "total_tokens": None})
    empty = serve("15", odd=lambda n, prompt: (200, counts))
    assert score(empty, "text", name="openai/gpt-4o-2024-08-06", budget=budget).score == 15 and budget.requests == 2


def test_a_request_that_would_exceed_the_budget_is_not_sent(serve: Any) -> None:
    server = serve({"15": 1.0})
    found = score(server, name="openai/gpt-4o-2024-08-06", budget=Budget(1e-9))
    assert found.no_score == "budget" and not server.bodies


def test_the_mean_of_numbers_is_not_that_of_their_first_digits() -> None:
    from sgtr_eval.judging.whole_numbers import may_be_first_digits

    assert may_be_first_digits({"1": math.log(0.97), "5": math.log(0.02), "The": math.log(0.01)})
    assert may_be_first_digits({"10": math.log(0.9), "95": math.log(0.1)})
    assert not may_be_first_digits({"0": 0.0}) and not may_be_first_digits({"5": math.log(0.9), "15": math.log(0.1)})
    assert not may_be_first_digits({"10": math.log(0.9), "100": math.log(0.1)})
    assert by_words("a15") == ["a", "15"]
