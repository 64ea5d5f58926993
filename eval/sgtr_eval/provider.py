"""The JAX engine as an Inspect model.

Inspect asks for one completion at a time from many coroutines; an accelerator wants batches. Whoever holds the
lock serves everybody who is waiting: while one batch runs, the next one gathers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    Content,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    Logprob,
    Logprobs,
    Model,
    ModelAPI,
    ModelInfo,
    ModelOutput,
    ModelUsage,
    StopReason,
    TopLogprob,
    modelapi,
    set_model_info,
)
from inspect_ai.tool import ToolCall, ToolChoice, ToolInfo

from sgtr_eval.choices import OPTIONS_KEY
from sgtr_eval.judging.whole_numbers import NUMBERS_KEY, Numbers
from sgtr_eval.tool_calls import rendered_tools, split_calls, turns_of
from sgtr_jax.errors import InputError
from sgtr_jax.json_types import Json, JsonObject

if TYPE_CHECKING:
    from sgtr_jax.data.chat import ChatFormat
    from sgtr_jax.sample.model import Model as SgtrModel
    from sgtr_jax.sample.request import Request, TokenLogprob

_HONOURED = {
    "max_tokens", "temperature", "top_p", "top_k", "seed", "num_choices", "stop_seqs", "logprobs", "top_logprobs",
    "extra_body",
}  # fmt: skip
# Settings about the connection or the log, which mean nothing to a local engine.
_HARMLESS = {
    "max_connections", "adaptive_connections", "max_retries", "timeout", "attempt_timeout", "cache", "batch",
    "system_message", "internal_tools", "max_tool_output",
}  # fmt: skip
_GATHER_SECONDS = 0.02
# Requests in flight, which is also how many samples of a task run at once. Without a number Inspect begins with 20 and
# adapts to a server that it thinks may refuse, and the engine runs nearly empty.
IN_FLIGHT = 1024


@dataclass
class _Job:
    tokens: tuple[int, ...]
    config: GenerateConfig
    first_sample: int
    output: ModelOutput | None = None
    error: Exception | None = None
    options: list[str] = field(default_factory=list)
    tools: list[ToolInfo] = field(default_factory=list)

    @property
    def of_numbers(self) -> bool:
        """Whether the log-probabilities of whole numbers are wanted."""
        return bool((self.config.extra_body or {}).get(NUMBERS_KEY))


@modelapi(name="sgtr")
class SgtrAPI(ModelAPI):
    """An Inspect provider over one base model and one adapter chain: `sgtr/nano`, `sgtr/FOLDER`, `sgtr/owner/name`.

    `-M adapter=DIR` (repeatable as a comma list) names the chain; `system` and `thinking_budget` are those of
    `sgtr sample`.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - Inspect's own signature
        model: SgtrModel | None = None,
        adapter: str | list[str] | None = None,
        **settings: Json,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        # Imported here, so that listing tasks does not start JAX.
        from sgtr_jax.config import build_config
        from sgtr_jax.sample.config import SampleConfig
        from sgtr_jax.sample.model import load_model
        from sgtr_jax.sample.multihost import LeaderEngine

        chosen = build_config(SampleConfig, settings, "model arguments (-M)")
        if model is None:
            folders = adapter.split(",") if isinstance(adapter, str) else adapter or []
            model = load_model(model_name, chosen.dtype).with_adapters([Path(folder) for folder in folders])
        if chosen.steer is not None:
            model = model.steered(chosen.steer)
        # Else Inspect looks the model up by its name, and makes one: a second copy of all weights.
        for name in (model_name, f"sgtr/{model_name}"):
            set_model_info(name, ModelInfo(context_length=model.spec.max_positions))
        self._model = model
        self._engine = LeaderEngine(model.engine)
        self._chat = chosen.chat(model.tokenizer)
        self.numbers = Numbers(model.tokenizer)
        self.refused: InputError | None = None  # what the chat template could not form; Inspect keeps its text alone
        self._with: dict[str, ChatFormat] = {}  # by the tools that a task gives
        self._waiting: list[_Job] = []
        self._lock = anyio.Lock()
        self._seen: Counter[tuple[object, ...]] = Counter()

    def max_connections(self) -> int:
        """Requests in flight: enough to fill batches."""
        return IN_FLIGHT

    def stop_followers(self) -> None:
        """Let the other processes of a job, which do as this one does, go on; see `sample.multihost`."""
        self._engine.stop_followers()

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Sample or score one request, in a batch with whatever else is waiting."""
        refused = set(config.model_dump(exclude_none=True)) - _HONOURED - _HARMLESS
        if refused:
            raise ValueError(f"sgtr models cannot honour these generation settings: {', '.join(sorted(refused))}")
        options = list((config.extra_body or {}).get(OPTIONS_KEY, []))
        rendered, turns = rendered_tools(tools, tool_choice), turns_of(input)
        chat = self._with_tools(rendered) if rendered else self._chat
        try:
            of_one_token = bool(options) or bool((config.extra_body or {}).get(NUMBERS_KEY))
            tokens = tuple(chat.answer_ids(turns) if of_one_token else chat.prompt_ids(turns))
        except InputError as error:
            self.refused = error
            raise
        # The n-th request for the same prompt is its n-th sample, whoever asks first.
        identity = (tokens, config.seed, config.temperature, config.top_p, config.top_k)
        job = _Job(tokens, config, self._seen[identity], options=options, tools=tools if rendered else [])
        self._seen[identity] += config.num_choices or 1
        self._waiting.append(job)
        await anyio.sleep(_GATHER_SECONDS)
        async with self._lock:
            if job.output is None and job.error is None:
                batch, self._waiting = self._waiting, []
                await anyio.to_thread.run_sync(self._serve, batch)
        if job.error is not None:
            raise job.error
        assert job.output is not None
        return job.output

    def score_options(self, asked: Sequence[Sequence[ChatMessage]], options: Sequence[str]) -> list[ModelOutput]:
        """The likeliest of `options` after each conversation, with the log-probabilities of all, in one call.

        Raises ValueError for an option that is not one token, and what the engine raises.
        """
        config = GenerateConfig(max_tokens=1, temperature=0.0, logprobs=True)
        jobs = [
            _Job(tuple(self._chat.answer_ids(turns_of(list(turns)))), config, 0, options=list(options))
            for turns in asked
        ]
        self._score(jobs)
        return [job.output for job in jobs if job.output is not None]

    def _with_tools(self, rendered: list[JsonObject]) -> ChatFormat:
        key = json.dumps(rendered, sort_keys=True)
        if key not in self._with:
            self._with[key] = self._chat.with_tools(rendered)
        return self._with[key]

    def _serve(self, batch: list[_Job]) -> None:
        scored = [job for job in batch if job.options]
        numbers = [job for job in batch if job.of_numbers]
        sampled = [job for job in batch if not job.options and not job.of_numbers]
        try:
            if scored:
                self._score(scored)
            if numbers:
                self._score_numbers(numbers)
            if sampled:
                self._sample(sampled)
        except Exception as error:  # noqa: BLE001 - handed to every request of the batch, which raises it
            for job in batch:
                job.error = error

    def _score(self, jobs: list[_Job]) -> None:
        known = {option: self._option_id(option) for job in jobs for option in job.options}
        ids = [[known[option] for option in job.options] for job in jobs]
        scored = self._engine.next_token_logprobs([job.tokens for job in jobs], ids)
        for job, values in zip(jobs, scored, strict=True):
            self._rank(job, dict(zip(job.options, map(float, values), strict=True)))

    def _score_numbers(self, jobs: list[_Job]) -> None:
        found = self.numbers.logprobs([job.tokens for job in jobs], self._engine.next_token_logprobs)
        for job, values in zip(jobs, found, strict=True):
            self._rank(job, {str(number): value for number, value in values.items()})

    def _rank(self, job: _Job, texts: dict[str, float]) -> None:
        """Reply with the likeliest text, and the log-probabilities of all."""
        ranked = sorted(texts.items(), key=lambda item: -item[1])
        best, value = ranked[0]
        top = [TopLogprob(token=text, logprob=logprob) for text, logprob in ranked]
        logprobs = Logprobs(content=[Logprob(token=best, logprob=value, top_logprobs=top)])
        job.output = self._output([self._choice(best, None, "stop", logprobs)], job, 1)

    def _sample(self, jobs: list[_Job]) -> None:
        requests = [self._request(job, sample) for job in jobs for sample in range(job.config.num_choices or 1)]
        owners = [job for job in jobs for _ in range(job.config.num_choices or 1)]
        completions = self._engine.sample(requests, self._model.stop_ids)
        choices: dict[int, list[ChatCompletionChoice]] = {id(job): [] for job in jobs}
        tokens: Counter[int] = Counter()
        for job, request, completion in zip(owners, requests, completions, strict=True):
            reasoning, text = self._chat.separate(completion.tokens)
            for stop in request.stop:
                text = text.partition(stop)[0]
            logprobs = None
            if completion.logprobs is not None:
                logprobs = Logprobs(content=[self._logprob(one) for one in completion.logprobs])
            text, calls = split_calls(text, job.tools) if job.tools else (text, [])
            choices[id(job)].append(self._choice(text, reasoning, completion.finish, logprobs, calls))
            tokens[id(job)] += len(completion.tokens)
        for job in jobs:
            job.output = self._output(choices[id(job)], job, tokens[id(job)])

    def _request(self, job: _Job, sample: int) -> Request:
        from sgtr_jax.sample.request import Request

        config = job.config
        return Request(
            prompt_id=",".join(map(str, job.tokens)),
            tokens=job.tokens,
            max_tokens=config.max_tokens or 256,
            temperature=1.0 if config.temperature is None else config.temperature,
            seed=config.seed or 0,
            sample=job.first_sample + sample,
            top_p=1.0 if config.top_p is None else config.top_p,
            top_k=config.top_k or 0,
            stop=tuple(config.stop_seqs or ()),
            logprobs=(config.top_logprobs or 0) if config.logprobs else None,
        )

    def _logprob(self, one: TokenLogprob) -> Logprob:
        def text(token: int) -> str:
            decoded: str = self._model.tokenizer.decode([token])
            return decoded

        top = [TopLogprob(token=text(token), logprob=value) for token, value in one.top]
        return Logprob(token=text(one.token), logprob=one.logprob, top_logprobs=top or None)

    def _option_id(self, option: str) -> int:
        ids = self._model.tokenizer.encode(option, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(f"answer option {option!r} is {len(ids)} tokens; log-probability scoring needs one")
        return int(ids[0])

    def _choice(
        self, text: str, reasoning: str | None, finish: str, logprobs: Logprobs | None, calls: Sequence[ToolCall] = ()
    ) -> ChatCompletionChoice:
        content: str | list[Content] = text
        if reasoning is not None:
            content = [ContentReasoning(reasoning=reasoning), ContentText(text=text)]
        message = ChatMessageAssistant(
            content=content, tool_calls=list(calls) or None, model=self.model_name, source="generate"
        )
        stop_reason: StopReason = ("tool_calls" if calls else "stop") if finish == "stop" else "max_tokens"
        return ChatCompletionChoice(message=message, stop_reason=stop_reason, logprobs=logprobs)

    def _output(self, choices: list[ChatCompletionChoice], job: _Job, generated: int) -> ModelOutput:
        usage = ModelUsage(
            input_tokens=len(job.tokens), output_tokens=generated, total_tokens=len(job.tokens) + generated
        )
        return ModelOutput(model=self.model_name, choices=choices, usage=usage)


def inspect_model(model: SgtrModel, **settings: Any) -> Model:
    """A loaded model as an Inspect model."""
    api = SgtrAPI(model.name, model=model, **settings)
    return Model(api, GenerateConfig(max_connections=api.max_connections()))
