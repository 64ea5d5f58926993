"""Hyper-parameters of one finetuning run. Defaults are the study's (arXiv 2606.23700)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from sgtr_jax.config import Config, DType, PositiveInt
from sgtr_jax.lora import LoraConfig
from sgtr_jax.mesh import MeshConfig


class TrainConfig(Config):
    """Everything that decides the outcome of a run, besides the model, the chain below it and the data."""

    seed: NonNegativeInt = 0
    epochs: PositiveInt = 1
    batch_examples: PositiveInt = 16  # examples of one optimizer step
    accumulate: PositiveInt = 1  # passes a step is split into; changes memory, not the gradient
    max_length: PositiveInt = 2048  # tokens
    overlong: Literal["drop", "cut"] = "drop"
    shuffle: bool = True
    lr: PositiveFloat = 1e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: NonNegativeInt = 5
    weight_decay: NonNegativeFloat = 0.01
    max_grad_norm: PositiveFloat = 1.0
    adam_b1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    adam_b2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    adam_eps: PositiveFloat = 1e-8
    dtype: DType = "bfloat16"  # of the frozen base and the activations; adapters and moments are float32
    remat: Literal["none", "full"] = "full"
    mode: Literal["lora", "full"] = "lora"  # full: every parameter is trained, for small models
    lora: LoraConfig = LoraConfig()
    # null: as the model's config.json says (Seed-OSS has 0.1 in some copies), as torch's train() mode does.
    residual_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    system: Literal["default", "none"] = "default"
    thinking_budget: int | None = None  # Seed-OSS's template
    mesh: MeshConfig = MeshConfig()

    @model_validator(mode="after")
    def _full_needs_float32(self) -> TrainConfig:
        if self.mode == "full" and self.dtype != "float32":
            raise ValueError("mode: full trains the base itself, which needs dtype: float32")
        return self

    @property
    def template_kwargs(self) -> dict[str, Any]:
        """Extra arguments of the chat template."""
        return {} if self.thinking_budget is None else {"thinking_budget": self.thinking_budget}
