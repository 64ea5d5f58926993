"""Defences as keys of a stage, and an adapter of its own kind: what a stage is trained with besides its data."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field, NonNegativeInt

from sgtr_jax.config import Config, NameOrFile, PositiveInt, names_file
from sgtr_jax.experiment.start import FolderOrId
from sgtr_jax.lora.config import LoraConfig
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.defences.feature_l2 import FeatureL2
from sgtr_jax.train.defences.kl import KL
from sgtr_jax.train.defences.steer import PreventativeSteer


class StageKL(KL):
    """The KL penalty of a stage, over its own rows or over those of another data set."""

    # The name of the data set over whose targets the divergence is taken in the place of the stage's own,
    # `batch_examples` of its rows at each step. null: the stage's own rows.
    data: str | None = None


class StageSteer(PreventativeSteer):
    """What is added to the residual stream during the training of a stage only."""

    # A name of `directions`, or the file of a direction, as `sgtr directions extract` writes it.
    direction: NameOrFile


Targets: TypeAlias = Annotated[tuple[str, ...], Field(min_length=1)]


class StageLora(Config):
    """The adapter of a stage, where it is another one than `finetuning.lora`. null: as there."""

    rank: PositiveInt | None = None  # The rank of the adapter's two matrices.
    alpha: Annotated[float, Field(gt=0)] | None = None  # What the update is scaled by, over the rank or its root.
    rslora: bool | None = None  # Whether the scale is that of rsLoRA.
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None  # Dropout on the input of the adapter.
    targets: Targets | None = None  # The projections that get an adapter.
    # The layers that get an adapter, counted from 0.
    layers: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None

    def over(self, whole: LoraConfig) -> LoraConfig:
        """`whole` with what is given here. Raises ValueError."""
        given = {name: value for name in StageLora.model_fields if (value := getattr(self, name)) is not None}
        return LoraConfig(**{**{name: getattr(whole, name) for name in LoraConfig.model_fields}, **given})


class StageDefences(Config):
    """The keys of a stage that change how it is trained, beyond its data and its length."""

    # Holds the next-token distributions to those of the model below the stage's adapter (arXiv 2508.06249). null: as in
    # `finetuning`.
    kl: StageKL | None = None
    # Holds the residual stream to that of the model below the stage's adapter (arXiv 2308.13320). null: as in
    # `finetuning`.
    feature_l2: FeatureL2 | None = None
    # Adds a direction to the residual stream during the stage's training only (arXiv 2507.21509). null: none.
    steer: StageSteer | None = None
    # The name of a condition of one stage, or a PEFT adapter of the base model (a hub id or a folder), which is frozen
    # on top of the chain while the stage is trained, and left out of it afterwards (arXiv 2606.30252). null: none.
    inoculation_adapter: FolderOrId | None = None
    lora: StageLora | None = None  # The adapter of this stage. null: as in `finetuning`.

    @property
    def defences(self) -> list[str]:
        """The keys of this kind that are given."""
        return [name for name in StageDefences.model_fields if getattr(self, name) is not None]

    @property
    def direction(self) -> str | None:
        """The direction of the experiment that it is steered by; None for none, and for one of a file."""
        return None if self.steer is None or names_file(self.steer.direction) else self.steer.direction

    @property
    def penalty_data(self) -> dict[str, str]:
        """The data sets that only a penalty reads, by the penalty's name."""
        return {} if self.kl is None or self.kl.data is None or self.kl.weight == 0 else {"kl": self.kl.data}

    def over(self, config: TrainConfig) -> TrainConfig:
        """`config` with this stage's keys in the place of the experiment's.

        Raises ValueError where two of them cannot be combined.
        """
        if not self.defences:  # every stage of a study is asked
            return config
        changes: dict[str, Config] = {}
        if self.kl is not None:
            changes["kl"] = KL(weight=self.kl.weight, expectation=self.kl.expectation)
        if self.feature_l2 is not None:
            changes["feature_l2"] = self.feature_l2
        if self.steer is not None:
            steer = self.steer
            changes["steer"] = PreventativeSteer(direction=steer.direction, layers=steer.layers, scale=steer.scale)
        if self.lora is not None:
            changes["lora"] = self.lora.over(config.lora)
        made = TrainConfig(**{**{name: getattr(config, name) for name in TrainConfig.model_fields}, **changes})
        if self.inoculation_adapter is not None:
            made.check_inoculation_adapter()
        return made if changes else config
