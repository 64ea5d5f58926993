"""What a condition starts from in place of the base model: somebody else's adapter, or a finetuned checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo, model_validator

from sgtr_jax.config import Config, from_folder

SEED = "{seed}"


def _folder_or_id(value: str, info: ValidationInfo) -> str:
    """A folder beside the config's file, where there is one for any seed; anything else stays as it is."""
    rest = value.replace(SEED, "")
    if "{" in rest or "}" in rest:
        raise ValueError(f"{value!r}: only {SEED} is filled in")
    there = Path(from_folder(value, info))
    found = any(path.is_dir() for path in there.parent.glob(there.name.replace(SEED, "*")))
    return str(there) if found else value


FolderOrId = Annotated[str, AfterValidator(_folder_or_id)]


class Start(Config):
    """A finetuned model that exists: a PEFT adapter of the base model, or a whole checkpoint of its family.

    `{seed}` in a name stands for the seed, so that seed 3 of a condition starts from `org/name_3`.
    """

    # A PEFT adapter on the base model: a hub id or a folder. null: none.
    adapter: FolderOrId | None = None
    # A finetuned checkpoint of the base model's family: a hub id or a folder. The condition's own stages are trained on
    # it and not on the base model. null: none.
    model: FolderOrId | None = None
    # The commit, tag or branch of the hub's repository. The commit that it meant is kept in the store of the run, which
    # goes on with that one.
    revision: str = "main"

    @model_validator(mode="after")
    def _one(self) -> Start:
        if (self.adapter is None) == (self.model is None):
            raise ValueError("a start is either {adapter: NAME} or {model: NAME}")
        return self

    @property
    def source(self) -> str:
        """The adapter or model, with `{seed}`."""
        return self.adapter or self.model or ""

    @property
    def has_seeds(self) -> bool:
        """Whether every seed has one of its own."""
        return SEED in self.source

    def at(self, seed: int) -> str:
        """The name of the one of a seed."""
        return self.source.replace(SEED, str(seed))
