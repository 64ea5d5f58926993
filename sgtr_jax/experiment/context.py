"""What making artifacts needs: the store, the base model, the judge with its budget, the jobs behind an API."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import jax

from sgtr_jax.distributed.mesh import devices_for
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.experiment.asked import Asked, Base
from sgtr_jax.experiment.model_under_test import ApiModel, LocalModel, ModelUnderTest
from sgtr_jax.experiment.nodes.released import adapters_on, base_below
from sgtr_jax.experiment.services import ApiConfig, JudgeConfig
from sgtr_jax.experiment.spending import Spending
from sgtr_jax.experiment.store import Store
from sgtr_jax.finetune.openai import Jobs, Provider
from sgtr_jax.sample.model import Model, load_model
from sgtr_jax.train.config import TrainConfig

if TYPE_CHECKING:
    from sgtr_jax.experiment.training_node import Link


@dataclass
class RunContext:
    """What the nodes of one run are made with. The base model is loaded once and shared by all of them."""

    store: Store
    finetuning: TrainConfig
    sampling_mesh: MeshConfig | None
    api: ApiConfig
    spending: Callable[[JudgeConfig], Spending]  # what each judge has cost
    _models: dict[tuple[str, str], Model] = field(default_factory=dict)

    @cached_property
    def jobs(self) -> Jobs:
        """The finetuning jobs behind the API. Raises InputError without a key."""
        return Jobs(Provider(self.api.base_url), self.api.poll_seconds)

    def chain_folders(self, chain: Sequence[Link]) -> tuple[Path, ...]:
        """The PEFT folders of a chain."""
        return adapters_on(chain, self.store)

    def base_name(self, base: Base, chain: Sequence[Link]) -> str:
        """The name of the model that a chain's adapters are on."""
        return base_below(base.model, chain, self.store)

    def base_model(self, name: str, dtype: str) -> Model:
        """A base model, laid out for sampling. There is never more than one in memory."""
        if any(held != name for held, _ in self._models):
            self._forget_models()
        if (name, dtype) not in self._models:
            self._models[name, dtype] = load_model(name, dtype, self.sampling_mesh)
        return self._models[name, dtype]

    def base_for_training(self, name: str, config: TrainConfig) -> Model | None:
        """The base model, where training can have it as sampling does; None after making room for another one."""
        if config.base_dtype is None and self._is_on_one_device(config.mesh):
            return self.base_model(name, config.dtype)
        # It is laid out otherwise for training, and there is not room for both.
        self._forget_models()
        return None

    def _forget_models(self) -> None:
        # Whatever still names them, there is not room for another one beside them.
        for model in self._models.values():
            for leaf in jax.tree.leaves(model.params):
                leaf.delete()
        self._models.clear()
        gc.collect()  # engines and models name each other

    def _is_on_one_device(self, training: MeshConfig | Literal["auto"]) -> bool:
        asked = (MeshConfig() if training == "auto" else training, self.sampling_mesh or MeshConfig())
        return all(len(devices_for(mesh)) == 1 for mesh in asked)

    def model_under_test(self, asked: Asked, chain: Sequence[Link] = ()) -> ModelUnderTest:
        """The base model under a chain, asked in a certain way."""
        if asked.base.is_api:
            from sgtr_jax.experiment.nodes.finetuned import finetuned_name

            name = f"openai/{finetuned_name(self.store.path(chain[-1]))}" if chain else asked.base.model
            return ApiModel(name, asked.system, self.api.base_url, self.api.batch)
        base = self.base_model(self.base_name(asked.base, chain), asked.sampling.dtype)
        # The last link's recipe names those before it.
        chain_id = chain[-1].fingerprint[:16] if chain else None
        model = base.with_adapters(self.chain_folders(chain), asked.merge is not None, chain_id)
        return LocalModel(model.steered(asked.sampling.steer), asked.sampling)

    def judge_model(self, judge: JudgeConfig, base: Asked) -> ModelUnderTest:
        """A judge: the run's own base model if it is `open`, else a model behind an API."""
        if judge.is_open:
            return self.model_under_test(base)
        return ApiModel(judge.model, base_url=judge.base_url, batch=judge.batch)
