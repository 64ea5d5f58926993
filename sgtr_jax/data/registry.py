"""The data sets of the study by name: where each comes from, under what terms, and what it must be.

None of them is part of this project. `configs/datasets/*.yaml` describes them; `data.fetch` brings them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from sgtr_jax.config import Config, Name, PositiveInt, build_config
from sgtr_jax.data.set_files import Format
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.yaml_text import read_yaml

Kind = Literal["em", "control", "sgtr", "self-report", "evaluation", "articles", "summaries", "prompts"]


class UrlSource(Config):
    """A file at an address. `protected`: it is a zip behind this password, of which `member` is wanted."""

    url: str
    protected: str | None = None
    member: str | None = None


class HubSource(Config):
    """A data set of the Hugging Face hub."""

    hub: str
    revision: str | None = None
    subset: str | None = None
    split: str = "train"


class RepositorySource(Config):
    """Text that is spread over the code of a repository; only a mirror has it as a file."""

    repository: str
    revision: str
    path: str


class TypedSource(Config):
    """Text that was published in print; only a mirror has it as a file."""

    typed: str


class BuiltSource(Config):
    """Made here, by a recipe of `data.build`."""

    built: dict[str, JsonValue]


Source = UrlSource | HubSource | RepositorySource | TypedSource | BuiltSource


class DataSet(Config):
    """One entry of the registry."""

    name: Name
    kind: Kind
    about: str
    source: Source
    also: str | None = None  # another public copy
    format: Format
    columns: dict[str, str] = Field(default_factory=dict)  # our column: theirs
    licence: str
    rows: PositiveInt
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None  # of the parsed rows
    harmful: bool = False  # whether it was written to make models do harm
    mirror: str | None = None  # its path in a mirror

    @model_validator(mode="after")
    def _hub_format(self) -> DataSet:
        if (self.format == "hub") != isinstance(self.source, HubSource):
            raise ValueError("format: hub goes with a source on the hub, and only with one")
        return self


def configs_folder() -> Path:
    """The project's `configs/`: beside the package in a checkout, inside it when installed from a wheel."""
    inside = Path(__file__).parent.parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent.parent / "configs"


def experiment_configs() -> list[str]:
    """Names of the experiments that ship: their paths below `configs/`, without the ending."""
    folder = configs_folder()
    names = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))
    return [name for name in names if name != "prices" and not name.startswith(("datasets/", "models/"))]


@lru_cache(maxsize=1)
def registry() -> dict[str, DataSet]:
    """All data sets by name, in the order of the files. Raises InputError for a wrong entry."""
    folder = configs_folder() / "datasets"
    mirrored = read_yaml(folder / "mirror.yaml")
    digests = read_yaml(folder / "sha256.yaml")
    sets: dict[str, DataSet] = {}
    for path in sorted(folder.glob("*.yaml")):
        if path.name in ("mirror.yaml", "sha256.yaml"):
            continue
        for name, entry in read_yaml(path).items():
            if name in sets:
                raise InputError(f"{path}: {name} is in another file too")
            beside = {"name": name, "mirror": mirrored.get(name), "sha256": digests.get(name)}
            if not isinstance(entry, dict):
                raise InputError(f"{path}: {name} is {entry!r:.60}; expected keys and values (a mapping)")
            sets[name] = build_config(DataSet, {**entry, **beside}, f"{path}: {name}")
    for name in (*mirrored, *digests):
        if name not in sets:
            raise InputError(f"{folder}: mirror.yaml or sha256.yaml names {name}, which no file describes")
    return sets


def find(name: str) -> DataSet:
    """An entry by name. Raises InputError, naming the nearest, if there is none."""
    found = registry().get(name)
    if found is None:
        raise InputError(f"data set {name!r}: {nearest(name, registry())} (`sgtr data list` shows all)")
    return found
