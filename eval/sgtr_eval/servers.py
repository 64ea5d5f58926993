"""Models behind an API: OpenAI's own by Inspect's provider, and any server that speaks its language by chat."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelCall, ModelOutput, get_model
from inspect_ai.model._model import RetryDecision
from inspect_ai.model._providers.openai import OpenAIAPI
from inspect_ai.tool import ToolChoice, ToolInfo
from openai import BadRequestError, UnprocessableEntityError

from sgtr_eval.judging.ask import is_about_logprobs, what_it_says
from sgtr_eval.judging.budget import Costs

# What a server may refuse and a request can do without, or be given in another way.
_SPARED = ("max_tokens", "max_completion_tokens", "temperature", "top_logprobs", "seed")
_MOST_TOPS = re.compile(
    r"(?:at most|maximum|max(?:imum)? allowed:?|less than or equal to|no more than|<=)\D{0,20}(\d+)"
    r"|(?:range|between)\D{0,12}\d+\s*(?:to|and|-)\s*(\d+)"
)
_FEWEST_TOKENS = re.compile(r"(?:>=|at least|minimum(?: value)?|greater than or equal to)\D{0,20}(\d+)")


class ChatServer(OpenAIAPI):
    """Inspect's OpenAI provider for a server of someone else: asked at /chat/completions, whatever the model's name.

    Inspect takes a name that it does not know for OpenAI's newest model: it would send it to the responses API, and
    leave out the temperature. A setting that the server refuses is left out from then on, or sent as the server wants
    it; log-probabilities are not, for without them there is no answer to what was asked.
    """

    _without: frozenset[str] = frozenset()
    _most_tops: int = 20
    _fewest_tokens: int = 1

    def is_latest(self) -> bool:
        """Never."""
        return False

    def is_o_series(self) -> bool:
        """Never, as far as the name says: what such a model refuses is learned from the server."""
        return False

    def is_gpt_5(self) -> bool:
        """Never, as above."""
        return False

    def uses_responses_api(self, tools: list[ToolInfo], config: GenerateConfig) -> bool:
        """Never."""
        return False

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput | tuple[ModelOutput | Exception, ModelCall]:
        """One request; again, without it or in its place, for each setting that the server refuses."""
        completions = self.client.chat.completions
        if not isinstance(completions.create, partial):
            completions.create = partial(_read, completions.create)  # type: ignore[method-assign]
        while True:
            known = self._without, self._most_tops, self._fewest_tokens
            result = await super().generate(input, tools, tool_choice, self._possible(config))
            error = result[0] if isinstance(result, tuple) else result
            if isinstance(error, ModelOutput) or not isinstance(error, BadRequestError | UnprocessableEntityError):
                return result
            self._learn(error)
            if known == (self._without, self._most_tops, self._fewest_tokens):
                return result

    def should_retry(self, ex: BaseException) -> bool | RetryDecision:
        """Not where log-probabilities are refused, with whichever status: waiting does not change that."""
        return not is_about_logprobs(what_it_says(ex)) and super().should_retry(ex)

    def _possible(self, config: GenerateConfig) -> GenerateConfig:
        changes: dict[str, object] = {name: None for name in ("temperature", "seed") if name in self._without}
        if config.max_tokens is not None:
            tokens = max(config.max_tokens, self._fewest_tokens)
            changes["max_tokens"] = None if "max_tokens" in self._without else tokens
            if "max_tokens" in self._without and "max_completion_tokens" not in self._without:
                changes["extra_body"] = {**(config.extra_body or {}), "max_completion_tokens": tokens}
        if config.top_logprobs is not None:
            changes["top_logprobs"] = min(config.top_logprobs, self._most_tops)
        return config.model_copy(update=changes)

    def _learn(self, error: BadRequestError | UnprocessableEntityError) -> None:
        """Remember which setting is refused; by the error's `param`, else by the first one that it names."""
        said = f"{error} {error.body}"
        named = error.param if error.param in _SPARED else None
        if named is None and error.param is None:
            found = re.search("|".join(_SPARED), said)
            named = found.group() if found else None
            if named is None and is_about_logprobs(said):
                named = "top_logprobs"
        if named == "top_logprobs":
            most = _MOST_TOPS.search(said)
            self._most_tops = min(self._most_tops, max(1, int(most[1] or most[2]))) if most else self._most_tops
        elif named in ("max_tokens", "max_completion_tokens") and (fewest := _FEWEST_TOKENS.search(said)):
            self._fewest_tokens = max(self._fewest_tokens, int(fewest[1]))
        elif named is not None:
            # A server that wants the newer name may name it first.
            newer = named == "max_completion_tokens" and "max_tokens" not in self._without
            self._without = self._without | {"max_tokens" if newer else named}


class ReplyError(ValueError):
    """A server's error in place of a reply, under the status of one. `code` is its number, None without one."""

    def __init__(self, said: str, code: object) -> None:
        super().__init__(said)
        self.code = code if isinstance(code, int) else None


async def _read(create: Callable[..., Awaitable[Any]], **request: Any) -> Any:
    """A completion, with its text in one where it comes in parts. Raises ReplyError for an error in its place."""
    completion = await create(**request)
    error = getattr(completion, "error", None)
    if error and not getattr(completion, "choices", None):
        said = error.get("message") if isinstance(error, dict) else error
        raise ReplyError(str(said or error), error.get("code") if isinstance(error, dict) else None)
    usage = getattr(completion, "usage", None)
    if usage is not None and None in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens):
        completion.usage = None  # counts of nothing: the budget counts by itself then
    for choice in getattr(completion, "choices", None) or []:
        content = getattr(choice.message, "content", None)
        if isinstance(content, list):
            texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
            choice.message.content = "".join(text for text in texts if isinstance(text, str))
    return completion


def api_model(name: str, base_url: str | None = None, batch: bool = False, **settings: Any) -> Model:
    """A model behind an API, with Inspect's layer of retries only: the client's own would multiply it.

    With `batch` requests are gathered and sent by the provider's batch interface: half the price, and a reply within
    a day rather than a second. Raises what the provider's package raises, for a missing key for instance.
    """
    by_openai = name.startswith("openai/")
    if batch:
        Costs.in_batches.add(name)
    arguments = {**settings, "max_retries": 0} if by_openai else settings
    elsewhere = by_openai and not name.startswith(("openai/azure/", "openai/bedrock/")) and is_elsewhere(base_url)
    if elsewhere:
        arguments["responses_api"] = False
    config = GenerateConfig(batch=True) if batch else GenerateConfig()
    model = get_model(name, config=config, base_url=base_url, memoize=False, **arguments)
    if elsewhere:
        # Not a provider under a name of its own: prices, caches and logs know the model as openai/NAME.
        model.api.__class__ = ChatServer
        model.api.responses_api, model.api.background = False, None  # type: ignore[attr-defined]
    return model


def is_elsewhere(base_url: str | None) -> bool:
    """Whether openai/ names are asked of another server than OpenAI's own."""
    address = base_url or os.environ.get("OPENAI_BASE_URL") or ""
    return bool(address) and not re.match(r"https://(\w+\.)?api\.openai\.com(/|$)", address)
