"""The JAX engine as an Inspect model.

Inspect asks for one completion at a time from many coroutines; an accelerator wants batches. Whoever holds the
lock serves everybody who is waiting: while one batch runs, the next one gathers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

if TYPE_CHECKING:
    from sgtr_jax.model import Model as SgtrModel

# Key of `GenerateConfig.extra_body`: texts of one token each whose log-probabilities are wanted.
OPTIONS_KEY = "sgtr_options"

_HONOURED = {"max_tokens", "temperature", "seed", "num_choices", "logprobs", "top_logprobs", "extra_body"}
# Settings about the connection or the log, which mean nothing to a local engine.
_HARMLESS = {
    "max_connections", "adaptive_connections", "max_retries", "timeout", "attempt_timeout", "cache", "batch",
    "system_message", "internal_tools", "max_tool_output",
}  # fmt: skip
_GATHER_SECONDS = 0.02


@dataclass
class _Job:
    tokens: tuple[int, ...]
    config: GenerateConfig
    first_sample: int
    output: ModelOutput | None = None
    error: Exception | None = None
    options: list[str] = field(default_factory=list)


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
        **settings: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        # Imported here, so that listing tasks does not start JAX.
        from sgtr_jax.config import build
        from sgtr_jax.model import load_model
        from sgtr_jax.sample.config import SampleConfig

        chosen = build(SampleConfig, settings, "model arguments (-M)")
        if model is None:
            folders = adapter.split(",") if isinstance(adapter, str) else adapter or []
            model = load_model(model_name, chosen.dtype).with_adapters([Path(folder) for folder in folders])
        self._model = model
        self._chat = chosen.chat(model.tokenizer)
        self._waiting: list[_Job] = []
        self._lock = anyio.Lock()
        self._seen: Counter[tuple[Any, ...]] = Counter()

    def max_connections(self) -> int:
        """Requests in flight: enough to fill batches."""
        return 512

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Sample or score one request, in a batch with whatever else is waiting."""
        if tools:
            raise ValueError("sgtr models do not call tools")
        refused = set(config.model_dump(exclude_none=True)) - _HONOURED - _HARMLESS
        if refused:
            raise ValueError(f"sgtr models cannot honour these generation settings: {', '.join(sorted(refused))}")
        options = list((config.extra_body or {}).get(OPTIONS_KEY, []))
        if config.logprobs and not options:
            raise ValueError(f"sgtr models give log-probabilities of listed answers only (extra_body.{OPTIONS_KEY})")
        messages = [{"role": message.role, "content": message.text} for message in input]
        tokens = tuple(self._chat.prompt_ids(messages))
        # The n-th request for the same prompt is its n-th sample, whoever asks first.
        identity = (tokens, config.seed, config.temperature)
        job = _Job(tokens, config, self._seen[identity], options=options)
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

    def _serve(self, batch: list[_Job]) -> None:
        scored = [job for job in batch if job.options]
        sampled = [job for job in batch if not job.options]
        try:
            if scored:
                self._score(scored)
            if sampled:
                self._sample(sampled)
        except Exception as error:  # noqa: BLE001 - handed to every request of the batch, which raises it
            for job in batch:
                job.error = error

    def _score(self, jobs: list[_Job]) -> None:
        logprobs = self._model.engine.next_token_logprobs([job.tokens for job in jobs])
        for job, row in zip(jobs, logprobs, strict=True):
            values = {option: float(row[self._option_id(option)]) for option in job.options}
            ranked = sorted(values.items(), key=lambda item: -item[1])
            best, value = ranked[0]
            top = [TopLogprob(token=option, logprob=logprob) for option, logprob in ranked]
            choice = self._choice(best, "stop")
            choice.logprobs = Logprobs(content=[Logprob(token=best, logprob=value, top_logprobs=top)])
            job.output = self._output([choice], job, 1)

    def _sample(self, jobs: list[_Job]) -> None:
        from sgtr_jax.sample.engine import Request

        requests, owners = [], []
        for job in jobs:
            config = job.config
            temperature = 1.0 if config.temperature is None else config.temperature
            for sample in range(config.num_choices or 1):
                requests.append(
                    Request(
                        prompt_id=",".join(map(str, job.tokens)),
                        tokens=job.tokens,
                        max_tokens=config.max_tokens or 256,
                        temperature=temperature,
                        seed=config.seed or 0,
                        sample=job.first_sample + sample,
                    )
                )
                owners.append(job)
        completions = self._model.engine.sample(requests, self._model.stop_ids)
        choices: dict[int, list[ChatCompletionChoice]] = {id(job): [] for job in jobs}
        tokens: Counter[int] = Counter()
        for job, completion in zip(owners, completions, strict=True):
            text = self._model.tokenizer.decode(completion.tokens, skip_special_tokens=True)
            choices[id(job)].append(self._choice(text, completion.finish))
            tokens[id(job)] += len(completion.tokens)
        for job in jobs:
            job.output = self._output(choices[id(job)], job, tokens[id(job)])

    def _option_id(self, option: str) -> int:
        ids = self._model.tokenizer.encode(option, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(f"answer option {option!r} is {len(ids)} tokens; log-probability scoring needs one")
        return int(ids[0])

    def _choice(self, text: str, finish: str) -> ChatCompletionChoice:
        message = ChatMessageAssistant(content=text, model=self.model_name, source="generate")
        return ChatCompletionChoice(message=message, stop_reason="stop" if finish == "stop" else "max_tokens")

    def _output(self, choices: list[ChatCompletionChoice], job: _Job, generated: int) -> ModelOutput:
        usage = ModelUsage(
            input_tokens=len(job.tokens), output_tokens=generated, total_tokens=len(job.tokens) + generated
        )
        return ModelOutput(model=self.model_name, choices=choices, usage=usage)


def inspect_model(model: SgtrModel, **settings: Any) -> Model:
    """A loaded model as an Inspect model."""
    return Model(SgtrAPI(model.name, model=model, **settings), GenerateConfig())
