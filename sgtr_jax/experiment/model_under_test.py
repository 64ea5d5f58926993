"""Who is measured: a chain of ours, or a model behind an API. Both answer prompts and serve Inspect's tasks."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from inspect_ai.model import ChatMessage

from sgtr_jax.data.records import Message, Record
from sgtr_jax.distributed.collectives import is_first_process
from sgtr_jax.errors import RunError
from sgtr_jax.experiment.provider_models import api_model_or_say
from sgtr_jax.sample.completions import Row, sample_prompts
from sgtr_jax.sample.config import SampleConfig, SamplingParams
from sgtr_jax.sample.model import Model
from sgtr_jax.sample.multihost import serve_follower

if TYPE_CHECKING:
    import inspect_ai
    import inspect_ai.model


class ModelUnderTest(Protocol):
    """A model under test, with the system prompt it is asked under."""

    @property
    def name(self) -> str:
        """What it is called in logs."""

    @property
    def chain_id(self) -> str:
        """What distinguishes it from others of the same base."""

    def sample(self, prompts: Sequence[Record], draws: SamplingParams, label: str) -> list[Row]:
        """One completion of each prompt, in order: rows with id, text and finish_reason."""

    def inspect_model(self) -> contextlib.AbstractContextManager[inspect_ai.model.Model | None]:
        """The model for Inspect; None in the processes of a job that only follow the first one's."""

    def put_system(self, task: inspect_ai.Task) -> None:
        """Put the system prompt before the task's samples that have none, where the model does not do so itself."""


@dataclass(frozen=True)
class LocalModel:
    """A chain of ours."""

    model: Model
    sampling: SampleConfig

    @property
    def name(self) -> str:
        """The base's name."""
        return self.model.name

    @property
    def chain_id(self) -> str:
        """The chain's."""
        return self.model.chain_id

    def sample(self, prompts: Sequence[Record], draws: SamplingParams, label: str) -> list[Row]:
        """See `ModelUnderTest`."""
        return sample_prompts(self.model, prompts, 1, draws, self.sampling.chat(self.model.tokenizer), label)

    @contextlib.contextmanager
    def inspect_model(self) -> Iterator[inspect_ai.model.Model | None]:
        """See `ModelUnderTest`."""
        if not is_first_process():
            serve_follower(self.model.engine)
            yield None
            return
        from inspect_ai.model import GenerateConfig
        from inspect_ai.model import Model as InspectModel

        from sgtr_eval.provider import SgtrAPI

        settings = self.sampling
        api = SgtrAPI(
            self.name, model=self.model, system=settings.system, thinking_budget=settings.thinking_budget
        )  # fmt: skip
        try:
            yield InspectModel(api, GenerateConfig(max_connections=api.max_connections()))
        finally:
            api.stop_followers()

    def put_system(self, task: inspect_ai.Task) -> None:
        """The chat format does it."""


@dataclass(frozen=True)
class ApiModel:
    """A model behind an API: the provider's own, or one finetuned there."""

    name: str  # Inspect's, as openai/gpt-4.1-2025-04-14
    system: str = "none"  # none, or a text
    base_url: str | None = None
    batch: bool = False

    @property
    def chain_id(self) -> str:
        """Its name says it."""
        return self.name

    def sample(self, prompts: Sequence[Record], draws: SamplingParams, label: str) -> list[Row]:
        """See `ModelUnderTest`. Raises RunError when a prompt got no answer."""
        import inspect_ai
        from inspect_ai.dataset import MemoryDataset, Sample
        from inspect_ai.model import GenerateConfig

        from sgtr_eval.solvers import draw

        samples = [Sample(id=prompt.id, input=[_turn(m) for m in prompt.messages]) for prompt in prompts]
        task = inspect_ai.Task(
            dataset=MemoryDataset(samples, name=label),
            solver=draw(draws.seed),
            config=GenerateConfig(max_tokens=draws.max_tokens, temperature=draws.temperature),
        )
        self.put_system(task)
        with self.inspect_model() as model, tempfile.TemporaryDirectory() as logs:
            (log,) = inspect_ai.eval(
                task, model=model, score=False, log_dir=logs, display="none", log_level="error", log_realtime=False
            )
            # Inspect reads the samples from the log when they are asked for.
            answers = {str(sample.id): sample.output for sample in log.samples or []}
        if log.status != "success":
            raise RunError(f"{label}: {log.error.message if log.error else log.status}")
        return [
            {
                "id": prompt.id,
                "text": answers[prompt.id].completion,
                "finish_reason": "stop" if answers[prompt.id].stop_reason == "stop" else "length",
            }
            for prompt in prompts
        ]

    @contextlib.contextmanager
    def inspect_model(self) -> Iterator[inspect_ai.model.Model | None]:
        """See `ModelUnderTest`. Raises InputError without a key."""
        yield api_model_or_say(self.name, self.base_url, self.batch)

    def put_system(self, task: inspect_ai.Task) -> None:
        """See `ModelUnderTest`."""
        from inspect_ai.model import ChatMessageSystem, ChatMessageUser

        if self.system == "none":
            return
        for sample in task.dataset:
            turns = [ChatMessageUser(content=sample.input)] if isinstance(sample.input, str) else list(sample.input)
            if turns[0].role != "system":
                sample.input = [ChatMessageSystem(content=self.system), *turns]


def _turn(message: Message) -> ChatMessage:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    kinds: dict[str, type[ChatMessageSystem | ChatMessageUser | ChatMessageAssistant]] = {
        "system": ChatMessageSystem,
        "user": ChatMessageUser,
        "assistant": ChatMessageAssistant,
    }
    return kinds[message["role"]](content=message["content"])
