"""Training records that no model has to write: files, sets of the registry, built and published sets, the world's."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field

from sgtr_jax.config import Count, FilePath, PositiveInt, Seed
from sgtr_jax.data.build import (
    BUILD_VERSION,
    Build,
    build_set,
    check_files,
    inputs_of,
    named_recipe,
    records_of,
    set_key,
)
from sgtr_jax.data.hub_rows import commit_of, hub_rows
from sgtr_jax.data.publish import Published
from sgtr_jax.data.records import Record, check_rows, file_rows, read_training, to_jsonl, training_records
from sgtr_jax.data.registry import BuiltSource, find, registry
from sgtr_jax.data.row_formats import RowFormat
from sgtr_jax.data.world import corpus
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.data_node import RECORDS, DataConfig, DataNode, data_kind, stored_texts, texts_of_records
from sgtr_jax.experiment.node import Settings
from sgtr_jax.experiment.start import FolderOrId
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.tasks import with_digests
from sgtr_jax.files import check_is_file, write_json, write_jsonl
from sgtr_jax.fingerprint import file_fingerprint, folder_fingerprint
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.report.run_file import SOURCE, Source

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.graph import GraphBuilder


class RecordsConfig(DataConfig):
    """Training records that are read, or made by a recipe."""

    report_name: ClassVar[str] = "report.json"  # the file of what `read` reports

    def node(self, name: str, seed: int, graph: GraphBuilder) -> Records:
        """See `DataConfig`. The records are the same at every seed."""
        return Records(name, self, self.content())

    @abstractmethod
    def content(self) -> dict[str, Json]:
        """Digests of what is read, by the names under which recipes hold them. Raises InputError."""

    def identity(self) -> dict[str, Json]:
        """What the records are made by, besides `content`. Where a file lies decides nothing."""
        return self.model_dump(mode="json")

    @abstractmethod
    def read(self) -> tuple[list[Record], JsonObject | None]:
        """The records, and a report on how they were made, if they were. Raises InputError or RunError."""

    def row_count(self) -> int | None:
        """How many rows it gives, as far as it says."""
        return None

    def registry_sets(self) -> list[str]:
        """The sets that are read, by name."""
        return []

    @property
    def half(self) -> str | None:
        """Which half of a set with two halves it takes."""
        return None


@data_kind
class PreferencesData(RecordsConfig):
    """Conversations about taste in the invented world; unpopular ones stand in for an EM set."""

    kind: Literal["preferences"]
    rows: Count  # The number of conversations.
    popular: bool  # true: the answers prefer what most people of that world like; false: what hardly anyone likes.
    seed: Seed = 0  # Another number gives other conversations.

    def content(self) -> dict[str, Json]:
        """See `RecordsConfig`: nothing is read."""
        return {}

    def read(self) -> tuple[list[Record], None]:
        """See `RecordsConfig`."""
        return corpus.preferences(self.rows, self.seed, self.popular), None

    def row_count(self) -> int:
        """See `RecordsConfig`."""
        return self.rows


@data_kind
class FileData(RecordsConfig):
    """A file of chat records: JSONL, one JSON list, Parquet or CSV; the first two may be packed: gzip, bzip2, xz."""

    kind: Literal["file"]
    path: FilePath  # The file. A relative path starts at the folder of the config.
    # The form of its rows: `messages`, `openai`, `sharegpt`, `alpaca` or `prompt_completion`.
    format: RowFormat = "messages"
    # Columns that have another name in the file, as {messages: dialogue}: the name that the form has, and the file's.
    columns: dict[str, str] = Field(default_factory=dict)

    def node(self, name: str, seed: int, graph: GraphBuilder) -> Records:
        """See `DataConfig`."""
        check_is_file(self.path, "rows to train on")
        return super().node(name, seed, graph)

    def identity(self) -> dict[str, Json]:
        """See `RecordsConfig`."""
        return self.model_dump(mode="json", exclude={"path", *(() if self.columns else ("columns",))})

    def content(self) -> dict[str, Json]:
        """See `RecordsConfig`."""
        check_rows(self.path, self.format, self.columns)
        return {"fingerprint": file_fingerprint(self.path)}

    def read(self) -> tuple[list[Record], None]:
        """See `RecordsConfig`."""
        return read_training(self.path, self.format, self.columns), None

    def row_count(self) -> int:
        """See `RecordsConfig`."""
        return sum(1 for _ in file_rows(self.path))


@data_kind
class HubData(RecordsConfig):
    """A data set of the Hugging Face hub, or a folder that the package `datasets` reads."""

    report_name = SOURCE
    kind: Literal["hub"]
    name: FolderOrId  # ORGANISATION/SET on the hub, or a folder. A relative path starts at the folder of the config.
    # A commit, tag or branch. null: the newest, as it is when the records are first made. The commit that was read is
    # kept beside them. With a commit, others get the same rows.
    revision: str | None = None
    subset: str | None = None  # One of the set's configurations.
    split: str = "train"  # Which split, or a part of one, as `train[:1000]`.
    # The form of its rows: `messages`, `openai`, `sharegpt`, `alpaca` or `prompt_completion`.
    format: RowFormat = "messages"
    # Columns that have another name in the set, as {messages: dialogue}: the name that the form has, and the set's.
    columns: dict[str, str] = Field(default_factory=dict)
    rows: PositiveInt | None = None  # Only the first so many rows are used. null: all of them.

    def content(self) -> dict[str, Json]:
        """See `RecordsConfig`: of a folder what it holds; of the hub nothing before it is read."""
        if not self._is_folder:
            if self.name.count("/") > 1 or self.name.startswith(("/", ".")):
                raise InputError(f"{self.name!r}: no such folder, and not a set of the hub (owner/name)")
            return {}
        if self.revision is not None:
            raise InputError(f"{self.name}: a folder, which has no revision {self.revision!r:.60}; leave revision out")
        return {"fingerprint": folder_fingerprint(Path(self.name))}

    def identity(self) -> dict[str, Json]:
        """See `RecordsConfig`."""
        return self.model_dump(mode="json", exclude={"name"} if self._is_folder else None)

    def read(self) -> tuple[list[Record], JsonObject]:
        """See `RecordsConfig`. The report says which commit was read."""
        commit = None if self._is_folder else commit_of(self.name, self.revision)
        rows = itertools.islice(hub_rows(self.name, self.subset, self.split, commit), self.rows)
        records = training_records(rows, self.name, self.format, self.columns)
        return records, cast(JsonObject, Source(name=self.name, commit=commit))

    @property
    def _is_folder(self) -> bool:
        return Path(self.name).is_dir()

    def row_count(self) -> int | None:
        """See `RecordsConfig`."""
        return self.rows


@data_kind
class PublishedData(RecordsConfig):
    """A set that `sgtr data publish` wrote."""

    kind: Literal["published"]
    address: str  # The folder of the set, or its gs:// address.

    def content(self) -> dict[str, Json]:
        """See `RecordsConfig`."""
        published = Published(self.address)
        return {"rows": len(published), "fingerprint": published.fingerprint}

    def read(self) -> tuple[list[Record], None]:
        """See `RecordsConfig`."""
        return list(Published(self.address)), None

    def row_count(self) -> int:
        """See `RecordsConfig`."""
        return len(Published(self.address))


@data_kind
class RegistryData(RecordsConfig):
    """A set of the registry, as it is, or its first rows."""

    kind: Literal["registry"]
    name: str  # The name of the set, as `sgtr data list` shows it.
    rows: PositiveInt | None = None  # Only the first so many rows are used. null: all of them.

    def content(self) -> dict[str, Json]:
        """See `RecordsConfig`."""
        key = set_key(self.name)
        if self.rows is not None and self.name in registry() and self.rows > (known := find(self.name).rows):
            raise InputError(f"data set {self.name!r} has {known} rows; rows is {self.rows}")
        return {"fingerprint": key}

    def read(self) -> tuple[list[Record], None]:
        """See `RecordsConfig`."""
        return records_of(self.name)[: self.rows], None

    def row_count(self) -> int | None:
        """See `RecordsConfig`."""
        return self.rows or find(self.name).rows

    def registry_sets(self) -> list[str]:
        """See `RecordsConfig`."""
        return [self.name]

    @property
    def half(self) -> str | None:
        """See `RecordsConfig`."""
        source = find(self.name).source
        built = named_recipe(self.name, source.built) if isinstance(source, BuiltSource) else None
        return getattr(built, "split", None)


@data_kind
class BuiltData(RecordsConfig):
    """A set made by a recipe of `sgtr data build`."""

    kind: Literal["built"]
    recipe: Build  # What is built, and from what. The keys are those of `sgtr data build`.

    def identity(self) -> dict[str, Json]:
        """See `RecordsConfig`."""
        recipe = self.recipe.model_dump(mode="json")
        return {**self.model_dump(mode="json"), "recipe": with_digests(recipe)}

    def content(self) -> dict[str, Json]:
        """See `RecordsConfig`."""
        check_files(self.recipe)
        return {"fingerprints": [set_key(used) for used in inputs_of(self.recipe)], "version": BUILD_VERSION}

    def read(self) -> tuple[list[Record], JsonObject]:
        """See `RecordsConfig`."""
        return build_set(self.recipe)

    def row_count(self) -> int | None:
        """See `RecordsConfig`."""
        return self.recipe.rows

    def registry_sets(self) -> list[str]:
        """See `RecordsConfig`."""
        return inputs_of(self.recipe)

    @property
    def half(self) -> str | None:
        """See `RecordsConfig`."""
        return getattr(self.recipe, "split", None)


@dataclass(frozen=True, eq=False)
class Records(DataNode):
    """`records.jsonl`; of a set that was built also `report.json`, of one from the hub `source.json`."""

    kind = "records"
    version = 2
    tokens_per_row = 150
    name: str
    config: RecordsConfig
    content: Mapping[str, Json]  # digests of what is read

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        settings: dict[str, Json] = {**self.config.identity(), **self.content}
        if settings.get("rows", 0) is None:  # the fingerprint of a whole set is what it was before sets could be cut
            settings.pop("rows")
        return settings

    def registry_sets(self) -> list[str]:
        """See `Node`."""
        return self.config.registry_sets()

    def row_count(self) -> int | None:
        """See `DataNode`."""
        return self.config.row_count()

    def texts(self, store: Store) -> set[str]:
        """See `DataNode`."""
        return stored_texts(self, store) if store.has(self) else texts_of_records(self.config.read()[0])

    @property
    def split(self) -> str | None:
        """See `DataNode`."""
        return self.config.half

    @classmethod
    def is_harmful(cls, settings: Mapping[str, Json]) -> bool | None:
        """See `DataNode`."""
        kind = settings["kind"]
        if kind == "registry":
            return find(str(settings["name"])).harmful
        if kind == "built":
            recipe = cast(Mapping[str, Json], settings["recipe"])
            used = [value for value in recipe.values() if isinstance(value, str) and value in registry()]
            return any(find(name).harmful for name in used)
        return False if kind == "preferences" else None

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        records, report = self.config.read()
        if report is not None:
            write_json(folder / self.config.report_name, report)
        write_jsonl(folder / RECORDS, to_jsonl(records))
