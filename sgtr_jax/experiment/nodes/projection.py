"""How far a model's states lie along a direction: of answers, and of their prompts' last token (arXiv 2507.21509).

The direction is one for all conditions and seeds, that of the experiment's first seed: what is compared is measured by
the same yardstick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NoReturn

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from sgtr_eval.facts import Better, Facts, Workload
from sgtr_jax.config import Count, NameOrFile, PositiveInt, names_file
from sgtr_jax.data.duplicates import Item
from sgtr_jax.data.questions import read_questions
from sgtr_jax.data.records import Record
from sgtr_jax.data.set_files import content_sha256
from sgtr_jax.data.traits import find_trait
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.data_node import DataNode, stored_records
from sgtr_jax.experiment.evaluation_node import EvaluationConfig, EvaluationNode, Measured, evaluation_kind
from sgtr_jax.experiment.made_from import Part
from sgtr_jax.experiment.node import Node, Sampled, Settings
from sgtr_jax.experiment.nodes.direction import FILE
from sgtr_jax.files import write_json, write_jsonl
from sgtr_jax.fingerprint import file_fingerprint
from sgtr_jax.json_types import Json
from sgtr_jax.report.run_file import MetricRow, SampleRow
from sgtr_jax.sample.config import SamplingParams

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.graph import GraphBuilder
    from sgtr_jax.experiment.model_under_test import LocalModel
    from sgtr_jax.models.spec import ModelSpec


@evaluation_kind("projection")
class ProjectionEval(EvaluationConfig):
    """The projection of the model's states on a direction, over its own answers to questions, or over given rows."""

    kind: Literal["projection"]
    # A name of `directions`, or a file of `sgtr directions extract`. Of a name it is that of the first seed for all
    # conditions and seeds.
    direction: NameOrFile
    layer: NonNegativeInt  # The layer, counted from 0, behind which the value is taken that is drawn and compared.
    # The layers that are reported, each as answer_LAYER and prompt_LAYER. null: all.
    layers: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    # The states whose value is drawn and compared: the mean over an answer's tokens without the one that ends it, or
    # the last token of the prompt.
    tokens: Literal["answer", "prompt"] = "answer"
    # What each model is asked; give it or `data`: a JSONL file of questions, as `kind: questions` takes it, or a trait
    # (evil, sycophantic, hallucinating, self, or a YAML file of your own), of which it is the held-out questions.
    questions: NameOrFile | None = None
    # The name of a data set whose rows are read with the answers that they have, the same for each model.
    data: str | None = None
    samples: Count = 1  # With `questions`: how many answers are sampled for each.
    temperature: NonNegativeFloat = 1.0  # With `questions`: the temperature at which answers are sampled.
    max_tokens: PositiveInt = 200  # With `questions`: the largest number of tokens of an answer.
    better: Better = "neither"  # Whether a higher or a lower projection is better.
    title: str | None = None  # What the projection says, in words, for figures. null: the direction's name.

    @model_validator(mode="after")
    def _one_source(self) -> ProjectionEval:
        if (self.questions is None) == (self.data is None):
            raise ValueError("give questions, which each model answers, or data, whose rows are read, and not both")
        if self.layers is not None and self.layer not in self.layers:
            raise ValueError(f"layer is {self.layer}, which is not among layers, {list(self.layers)}")
        return self

    @property
    def facts(self) -> Facts:
        """See `EvaluationConfig`."""
        name = Path(self.direction).stem if names_file(self.direction) else self.direction
        what = "answers" if self.tokens == "answer" else "prompts"
        return Facts(
            _no_task, metric="projection", better=self.better, title=self.title or f"{what} along {name}",
            axis=f"projection on {name}, layer {self.layer}", extent=None, called="projection",
            workload=lambda arguments: self.workload(),
            draw_suffix=r"-\d+$" if self.data is None else r"$",
            asks_what_is_trained=lambda arguments: "states are read, and nothing is scored",
        )  # fmt: skip

    def workload(self) -> Workload:
        """What the model is asked."""
        return Workload(len(self.asked()), self.samples, asked=60, answered=self.max_tokens)

    def asked(self) -> list[Record]:
        """The questions that each model answers. Raises InputError."""
        if self.questions is None:
            return []
        if names_file(self.questions) and not self.questions.endswith((".yaml", ".yml")):
            return [Record(question.id, question.messages) for question in read_questions(Path(self.questions))]
        return find_trait(self.questions).to_measure()

    @property
    def parts(self) -> list[Part]:
        """See `EvaluationConfig`."""
        named = [] if names_file(self.direction) else [Part("direction", self.direction)]
        return named if self.data is None else [*named, Part("data", self.data)]

    def measured(self, name: str, seed: int, model: Measured, graph: GraphBuilder) -> ProjectionEvaluation:
        """See `EvaluationConfig`."""
        if model.asked.base.is_api:
            raise InputError(f"evaluation {name!r}: nothing can be read inside of a model behind an API")
        steer = model.asked.sampling.steer
        if steer is not None and steer.at == "answer":
            raise InputError(
                f"evaluation {name!r}: a condition has steer.at: answer, and which tokens are an answer's cannot be "
                "told when states are read; expected all"
            )
        self.asked()
        data = None if self.data is None else graph.data(self.data, graph.first_seed)
        direction = None if names_file(self.direction) else graph.direction(self.direction, graph.first_seed)
        return ProjectionEvaluation(model, self, seed, direction, data)


def _no_task() -> NoReturn:
    """Facts are of a task; states are read without one of Inspect's."""
    raise NotImplementedError


@dataclass(frozen=True, eq=False)
class ProjectionEvaluation(EvaluationNode):
    """`metrics.json` and `samples.jsonl`: a row's value is its projection behind `layer`."""

    reads_states: ClassVar[bool] = True
    config: ProjectionEval
    seed: int  # of the answers
    along: Node | None  # the direction; None: of a file
    data: DataNode | None

    @property
    def arguments(self) -> Mapping[str, Json]:
        """See `EvaluationNode`: there is no task."""
        return {}

    @property
    def own_settings(self) -> Settings:
        """See `EvaluationNode`. Where files lie decides nothing."""
        named = {"direction", "questions", "data", "better", "title", "kind"}
        own: dict[str, Json] = self.config.model_dump(mode="json", exclude=named)
        if self.along is None:
            own["direction"] = file_fingerprint(Path(self.config.direction))
        if self.config.questions is not None:
            asked = content_sha256(row.to_json() for row in self.config.asked())
            own |= {"questions": asked, "seed": self.seed}
        return own

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        own: dict[str, Node | None] = {"direction": self.along, "data": self.data}
        return {**super().inputs, **{role: node for role, node in own.items() if node is not None}}

    def sampled(self) -> Sampled | None:
        """See `Node`."""
        return None if self.config.questions is None else super().sampled()

    def items(self) -> dict[str, Item]:
        """See `EvaluationNode`. Of a data set there are none: it may be one that is trained on."""
        return {row.id: (row.messages[-1]["content"],) for row in self.config.asked()}

    def check_model(self, spec: ModelSpec) -> None:
        """See `EvaluationNode`: its layers, and the shape of a direction of a file."""
        for layer in (self.config.layer, *(self.config.layers or ())):
            if layer >= spec.num_layers:
                raise InputError(f"names layer {layer}; the model has layers 0 to {spec.num_layers - 1}")
        if self.along is None:
            from sgtr_jax.sample.directions import read_direction

            read_direction(Path(self.config.direction), spec)

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        # Looking at a graph does not pay for what reads weights.
        from sgtr_jax.experiment.model_under_test import LocalModel
        from sgtr_jax.sample.directions import read_direction
        from sgtr_jax.sample.rank import projections

        model = context.model_under_test(self.model.asked, self.chain)
        assert isinstance(model, LocalModel)  # another one is refused when the graph is made
        rows = self._rows(model, context)
        spoken = [row for row in rows if row.messages[-1]["content"].strip()]
        if not spoken:
            raise RunError(f"{self.name}: no answer has any text, so there is nothing to read states of")
        path = Path(self.config.direction) if self.along is None else context.store.path(self.along) / FILE
        direction = read_direction(path, model.model.spec)
        layers = self.config.layers or tuple(range(model.model.spec.num_layers))
        chat = model.sampling.chat(model.model.tokenizer)
        answers, prompts = projections(model.model, spoken, chat, direction, layers)
        at = layers.index(self.config.layer)
        read = {row.id: (float(answers[i, at]), float(prompts[i, at])) for i, row in enumerate(spoken)}
        write_jsonl(folder / "samples.jsonl", [self._sample(row, read.get(row.id)) for row in rows])
        write_json(folder / "metrics.json", self._metrics(layers, answers, prompts, len(rows) - len(spoken)))

    def _metrics(self, layers: Sequence[int], answers: np.ndarray, prompts: np.ndarray, silent: int) -> list[MetricRow]:
        at, n = layers.index(self.config.layer), len(answers)
        read = answers if self.config.tokens == "answer" else prompts
        found = {"projection": _mean(read[:, at])}
        for what, values in (("answer", answers), ("prompt", prompts)):
            found |= {f"{what}_{layer}": _mean(values[:, i]) for i, layer in enumerate(layers)}
        rows: list[MetricRow] = [{"metric": name, "value": value, "n": n} for name, value in found.items()]
        return [*rows, {"metric": "n_without_text", "value": silent, "n": n + silent}]

    def _sample(self, row: Record, read: tuple[float, float] | None) -> SampleRow:
        """A row for the report; without a value where the answer has no text."""
        answer, prompt = (None, None) if read is None else read
        return {
            "id": row.id,
            "question": "\n\n".join(turn["content"] for turn in row.messages[:-1]),
            "answer": row.messages[-1]["content"],
            "value": answer if self.config.tokens == "answer" else prompt,
            "scores": {} if read is None else {"answer": answer, "prompt": prompt},
        }

    def _rows(self, model: LocalModel, context: RunContext) -> list[Record]:
        """The conversations that are read."""
        config = self.config
        if self.data is not None:
            return stored_records(self.data, context.store)
        asked = config.asked()
        prompts = [Record(f"{row.id}-{number}", row.messages) for row in asked for number in range(config.samples)]
        draws = SamplingParams(max_tokens=config.max_tokens, temperature=config.temperature, seed=self.seed)
        answers = model.sample(prompts, draws, self.name)
        return [
            Record(prompt.id, (*prompt.messages, {"role": "assistant", "content": answer["text"]}))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64))
