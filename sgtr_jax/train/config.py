"""Hyper-parameters of one finetuning run. Defaults are the study's (arXiv 2606.23700)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from sgtr_jax.config import Config, DType, PositiveInt
from sgtr_jax.lora import LoraConfig
from sgtr_jax.mesh import MeshConfig

Rate = Annotated[float, Field(ge=0, lt=1)]


class CheckpointConfig(Config):
    """When the state of a run is saved, besides when the machine asks to stop. null: not for this reason."""

    every_steps: PositiveInt | None = None
    every_minutes: PositiveFloat | None = 10.0
    keep: PositiveInt = 2  # how many are kept


class LogConfig(Config):
    """Where metrics go besides metrics.jsonl."""

    tensorboard: bool = False  # into the run's folder, under tensorboard/
    wandb: str | None = None  # name of a Weights & Biases project


class ProfileConfig(Config):
    """Which steps are traced for XProf, into profile/ of the run's folder (the first run's, of several at once)."""

    start: PositiveInt = 10  # the first step traced; earlier ones compile and warm up
    steps: PositiveInt = 3


class TrainConfig(Config):
    """Everything that decides the outcome of a run, besides the model, the chain below it and the data.

    The settings in `WITHOUT_EFFECT` decide only how fast and on what it is reached.
    """

    seed: NonNegativeInt = 0
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None  # ends the run, and its schedule, before the epochs do
    batch_examples: Annotated[int, Field(ge=1, le=4095)] = 16  # examples of one optimizer step
    accumulate: PositiveInt = 1  # passes a step is split into; changes memory, not the gradient
    max_length: PositiveInt = 2048  # tokens
    overlong: Literal["drop", "cut"] = "drop"
    shuffle: bool = True
    lr: PositiveFloat = 1e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: NonNegativeInt = 5
    weight_decay: NonNegativeFloat = 0.01
    max_grad_norm: PositiveFloat = 1.0
    adam_b1: Rate = 0.9
    adam_b2: Rate = 0.999
    adam_eps: PositiveFloat = 1e-8
    dtype: DType = "bfloat16"  # of the frozen base and the activations; adapters and moments are float32
    base_dtype: Literal["int8"] | None = None  # how the frozen base is stored; null: as `dtype`
    mode: Literal["lora", "full"] = "lora"  # full: every parameter is trained, for small models
    lora: LoraConfig = LoraConfig()
    merge: Literal["bfloat16"] | None = None  # bfloat16: adapters below are first merged into the base, as PEFT does
    # null: as the model's config.json says (Seed-OSS has 0.1 in some copies), as torch's train() mode does.
    residual_dropout: Rate | None = None
    attention_dropout: Rate | None = None
    system: str = "default"  # default, none, or a text: what rows without a system message get; see ChatFormat
    inoculation: str | None = None  # system prompt of the training rows only
    thinking_budget: int | None = None  # Seed-OSS's template
    # What follows changes speed and memory.
    remat: Literal["none", "light", "full"] = "full"  # what is recomputed in the backward pass
    attention: Literal["auto", "xla", "splash"] = "auto"  # auto: splash on TPU
    runs_at_once: PositiveInt | None = None  # null: as many as fit into memory
    mesh: MeshConfig | Literal["auto"] = MeshConfig()  # auto: the fastest that fits, from programs compiled for it
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    profile: ProfileConfig | None = None  # an XProf trace of some steps

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

    @property
    def template_kwargs(self) -> dict[str, Any]:
        """Extra arguments of the chat template."""
        return {} if self.thinking_budget is None else {"thinking_budget": self.thinking_budget}

    def identity(self) -> dict[str, Any]:
        """The settings that decide the outcome, as JSON."""
        return self.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))


# Equal to float tolerance whatever these are; a checkpoint made under one value goes on under another.
WITHOUT_EFFECT = ("accumulate", "remat", "attention", "runs_at_once", "mesh", "checkpoint", "log", "profile")
