"""Hyper-parameters of one finetuning run. Defaults are the study's (arXiv 2606.23700)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from sgtr_jax.config import Config, DType, FilePath, Name, PositiveInt, Seed
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.json_types import JsonObject
from sgtr_jax.lora.config import LoraConfig
from sgtr_jax.train.defences.feature_l2 import FeatureL2
from sgtr_jax.train.defences.kl import KL
from sgtr_jax.train.defences.penalty import Penalty
from sgtr_jax.train.defences.steer import PreventativeSteer

Rate = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Point = PositiveInt | Fraction  # of a run: a number of steps, or a fraction of them
# A list of a file is a tuple here, also where a model's own validator has read the file's JSON before.
Points = Annotated[tuple[Point, ...], BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given)]


class CheckpointConfig(Config):
    """When the state of a run is saved, besides when the machine asks to stop. null: not for this reason."""

    # A checkpoint is saved after this number of steps. null: not for this reason.
    every_steps: PositiveInt | None = None
    # A checkpoint is saved after this number of minutes. null: not for this reason.
    every_minutes: PositiveFloat | None = 10.0
    keep: PositiveInt = 2  # The number of checkpoints that are kept.


class ProjectionsConfig(Config):
    """How far a run's model lies along directions while it is trained: a forward pass over fixed prompts."""

    # Files of `sgtr directions extract` by a name of your choice. Each is logged as projection/NAME/LAYER.
    directions: Annotated[dict[Name, FilePath], Field(min_length=1)]
    # The layers, counted from 0, behind which the state of each prompt's last token is projected; means over prompts.
    layers: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    prompts: FilePath  # A JSONL file of prompts, as that of `sgtr sample --prompts`.
    every: PositiveInt = 10  # It is done after every so many steps, and after the last.

    def is_due(self, step: int, steps: int) -> bool:
        """Whether it is done after a step of so many."""
        return step % self.every == 0 or step == steps


class LogConfig(Config):
    """Where metrics go besides metrics.jsonl, and what is logged besides a step's own."""

    tensorboard: bool = False  # Whether metrics also go to tensorboard/ in the run's folder.
    wandb: str | None = None  # The Weights & Biases project to which metrics also go. null: none.
    projections: ProjectionsConfig | None = None  # Projections on directions that are logged, too. null: none.


class ProfileConfig(Config):
    """Which steps are traced for XProf, into profile/ of the run's folder (the first run's, of several at once)."""

    start: PositiveInt = 10  # The first step that is traced. Earlier steps compile and warm up.
    steps: PositiveInt = 3  # The number of steps that are traced.


class TrainConfig(Config):
    """The settings of a finetuning run. Besides them, the model, the chain below it and the data decide its outcome.

    `accumulate`, `remat`, `attention`, `runs_at_once`, `mesh`, `checkpoint`, `log` and `profile` do not change it.
    """

    # The seed of the order of rows, of dropout and of the adapter's start. In an experiment, `seeds` replaces it.
    seed: Seed = 0
    epochs: PositiveInt = 1  # The number of passes over the data.
    # The run and its schedule end after this number of steps, if the epochs do not end before. null: no such limit.
    max_steps: PositiveInt | None = None
    # Points of the run at which its adapter is kept, in at/STEP: fractions of its steps (0.25; 1.0 for all of them), or
    # numbers of steps. The schedule is that of the whole run. An experiment measures its evaluations on each.
    measure_at: Points = ()
    batch_examples: Annotated[int, Field(ge=1, le=4095)] = 16  # The number of examples in one optimizer step.
    accumulate: PositiveInt = 1  # The number of passes that a step is split into. It changes memory, not the gradient.
    max_length: PositiveInt = 2048  # The largest number of tokens of an example.
    # What happens to an example with more tokens than `max_length`: it is dropped, or cut at its end.
    overlong: Literal["drop", "cut"] = "drop"
    shuffle: bool = True  # Whether the rows are shuffled anew for every epoch.
    lr: PositiveFloat = 1e-5  # The peak learning rate.
    # How the learning rate falls after the warm-up: linear and cosine fall to 0, constant does not fall.
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: NonNegativeInt = 5  # The number of steps in which the learning rate rises from 0 to its peak.
    weight_decay: NonNegativeFloat = 0.01  # The weight decay of AdamW.
    max_grad_norm: PositiveFloat = 1.0  # The gradient is scaled down to this norm where it is larger.
    adam_b1: Rate = 0.9  # The decay rate of AdamW's mean of gradients.
    adam_b2: Rate = 0.999  # The decay rate of AdamW's mean of squared gradients.
    adam_eps: PositiveFloat = 1e-8  # The epsilon of AdamW.
    # The dtype of the frozen base model and of the activations. Adapters and optimizer state are float32.
    dtype: DType = "bfloat16"
    # int8: the frozen base model is stored as int8, in half the memory. null: as `dtype`.
    base_dtype: Literal["int8"] | None = None
    # lora: an adapter is trained. full: every parameter is trained; for small models, and not in an experiment.
    mode: Literal["lora", "full"] = "lora"
    lora: LoraConfig = LoraConfig()  # The adapter.
    # bfloat16: the adapters below the new one are first merged into the base model, as PEFT does. null: they stay
    # apart.
    merge: Literal["bfloat16"] | None = None
    # Dropout on the residual stream. null: as the model's config.json says (0.1 in some copies of Seed-OSS), as torch's
    # train() mode does.
    residual_dropout: Rate | None = None
    attention_dropout: Rate | None = None  # Dropout on the attention weights. null: as the model's config.json says.
    # What rows without a system message get. default: what the chat template does by itself. none: no system block.
    # Another text: that system prompt.
    system: str = "default"
    inoculation: str | None = None  # A system prompt for the training rows only. null: none.
    # Holds the next-token distributions to those of the model below the trained adapter (arXiv 2508.06249). null: no.
    kl: KL | None = None
    # Holds the residual stream to that of the model below the trained adapter (arXiv 2308.13320). null: no.
    feature_l2: FeatureL2 | None = None
    # Adds a direction to the residual stream during training only: preventative steering (arXiv 2507.21509). null: no.
    steer: PreventativeSteer | None = None
    # How long the model may think: 0 closes the thinking block (Seed-OSS, Qwen3), other numbers are an argument of
    # Seed-OSS's chat template. null: the template's default.
    thinking_budget: int | None = None
    # What is recomputed in the backward pass: nothing, all but the large products, or everything. auto: the first of
    # these with which the most runs fit into memory at once. It changes speed and memory only.
    remat: Literal["auto", "none", "light", "full"] = "full"
    # The implementation of attention. auto: splash on TPU, flash on GPU, xla elsewhere. It changes speed and memory
    # only.
    attention: Literal["auto", "xla", "splash", "flash"] = "auto"
    # The number of runs that are trained at once. null: as many as fit into memory. It changes speed and memory only.
    runs_at_once: PositiveInt | None = None
    # The mesh for training. auto: the fastest one that fits, from programs that are compiled for each. It changes speed
    # and memory only.
    mesh: MeshConfig | Literal["auto"] = MeshConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()  # When the state of a run is saved.
    log: LogConfig = LogConfig()  # Where metrics go besides metrics.jsonl.
    profile: ProfileConfig | None = None  # The steps of which an XProf trace is written. null: none.

    @model_validator(mode="after")
    def _full_trains_the_base(self) -> TrainConfig:
        if self.mode == "full":
            if self.dtype != "float32":
                raise ValueError("mode: full trains the base itself, which needs dtype: float32")
            if self.base_dtype is not None or self.merge is not None:
                raise ValueError("mode: full trains the base itself; base_dtype and merge are for a frozen one")
        if self.merge is not None and self.base_dtype is not None:
            raise ValueError("merge: bfloat16 and base_dtype: int8 cannot be combined")
        return self

    def remat_to_try(self) -> tuple[TrainConfig, ...]:
        """The config with each value that `remat: auto` stands for, the fastest first; as it is for any other."""
        kinds = ("none", "light", "full") if self.remat == "auto" else (self.remat,)
        return tuple(self.model_copy(update={"remat": kind}) for kind in kinds)

    @model_validator(mode="after")
    def _defences_go_together(self) -> TrainConfig:
        held = [name for name in PENALTIES if getattr(self, name) is not None]
        if held and self.mode == "full":
            raise ValueError(
                f"{held[0]} compares with the model below the trained adapter, and mode: full trains no adapter; "
                "leave one of them out"
            )
        if held and self.steer is not None:
            raise ValueError(
                f"{held[0]} and steer cannot be combined: no source says whether the model that {held[0]} compares "
                "with is steered, too. Use one of them in a stage"
            )
        return self

    @property
    def penalties(self) -> dict[str, Penalty]:
        """The terms that are added to the loss, by name: those of a weight other than 0."""
        given: dict[str, Penalty | None] = {name: getattr(self, name) for name in PENALTIES}
        return {name: one for name, one in given.items() if one is not None and one.weight != 0}

    def check_inoculation_adapter(self) -> None:
        """Raise ValueError for what an adapter that is taken out again does not go together with."""
        if self.mode == "full":
            raise ValueError("inoculation_adapter: mode: full trains the base itself, on which no adapter lies")
        if self.merge is not None:
            raise ValueError(
                "inoculation_adapter: merge: bfloat16 would round it into the base, and it is taken out again"
            )
        for name in self.penalties:
            raise ValueError(
                f"inoculation_adapter and {name} cannot be combined: no source says whether the model that {name} "
                "compares with has the inoculation adapter. Use one of them in a stage"
            )

    @property
    def template_kwargs(self) -> JsonObject:
        """Extra arguments of the chat template."""
        return {} if self.thinking_budget is None else {"thinking_budget": self.thinking_budget}

    def identity(self) -> JsonObject:
        """The settings that decide the outcome, as JSON."""
        # What a run was before there were defences and layers to choose, a run without them still is.
        lora = {"layers"} if self.lora.layers is None else set[str]()
        plain = {name for name in DEFENCES if getattr(self, name) is None}
        without = dict.fromkeys({*WITHOUT_EFFECT, "measure_at", *plain}, True)
        # A direction is known by what is added of it, and not by where its file lies.
        found: JsonObject = self.model_dump(mode="json", exclude={**without, "lora": lora, **_unnamed(self.steer)})
        return found

    def kept_steps(self, steps: int) -> dict[Point, int]:
        """The step of each point of `measure_at` in a run of `steps` steps. Raises ValueError for one beyond them."""
        beyond = [at for at in self.measure_at if isinstance(at, int) and at > steps]
        if beyond:
            raise ValueError(f"measure_at: step {beyond[0]} is beyond the run's {steps} steps; give a fraction or less")
        return {at: at if isinstance(at, int) else max(1, round(at * steps)) for at in self.measure_at}


def _unnamed(steer: PreventativeSteer | None) -> dict[str, set[str]]:
    return {} if steer is None else {"steer": {"direction"}}


# Equal to float tolerance whatever these are; a checkpoint made under one value goes on under another.
WITHOUT_EFFECT = ("accumulate", "remat", "attention", "runs_at_once", "mesh", "checkpoint", "log", "profile")
PENALTIES = ("kl", "feature_l2")
DEFENCES = (*PENALTIES, "steer")  # settings of one stage, each in a file of its own in `train/defences`
