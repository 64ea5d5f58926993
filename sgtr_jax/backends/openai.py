"""The former name of `sgtr_jax.finetune.openai`."""

from __future__ import annotations

from sgtr_jax.finetune.openai import ApiFinetune, Jobs, Provider

__all__ = ["ApiFinetune", "Jobs", "Provider"]
