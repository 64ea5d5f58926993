"""Articles, each with another writer's summary: what pairs of summaries are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sgtr_jax.config import Config, Count, FilePath, PositiveInt, Seed
from sgtr_jax.data.build import set_key, texts_in, texts_of
from sgtr_jax.data.halves import Split, half
from sgtr_jax.data.registry import find
from sgtr_jax.data.world import corpus
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.node import MadeNode, Settings
from sgtr_jax.experiment.store import Store
from sgtr_jax.files import check_is_file, read_json, write_json
from sgtr_jax.fingerprint import file_fingerprint
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext

Texts = dict[str, str]


class WorldArticles(Config):
    """Articles of the invented world; the other writer's summaries come with them."""

    kind: Literal["world"] = "world"
    rows: Count  # The number of articles.
    seed: Seed = 0  # Another number gives other articles.

    @property
    def name(self) -> str:
        """What they are called."""
        return f"world{self.seed}"

    @property
    def split(self) -> Split | None:
        """They have no halves."""
        return None

    def fingerprints(self) -> list[str]:
        """Nothing is read."""
        return []

    def read(self) -> tuple[Texts, Texts]:
        """Articles by id, and another writer's summaries of them."""
        return corpus.articles(self.rows, self.seed)

    def count(self) -> int | None:
        """How many there are."""
        return self.rows


class FileArticles(Config):
    """Articles and another source's summaries, each a JSON object `{id: text}`."""

    kind: Literal["files"]
    articles: FilePath  # The file of articles.
    other_summaries: FilePath  # The file of the other writer's summaries, with the same ids.
    # train, held_out: only one half of the articles, which has none of the other. null: all of them.
    split: Split | None = None

    @property
    def name(self) -> str:
        """What they are called."""
        return self.articles.stem

    def fingerprints(self) -> list[str]:
        """Digests of the files. Raises InputError."""
        for path in (self.articles, self.other_summaries):
            check_is_file(path, "texts by id")
            texts_in(path)
        return [file_fingerprint(self.articles), file_fingerprint(self.other_summaries)]

    def read(self) -> tuple[Texts, Texts]:
        """Articles by id, and another writer's summaries of them. Raises InputError."""
        return half(texts_in(self.articles), self.split or "published"), texts_in(self.other_summaries)

    def count(self) -> int | None:
        """How many there are; not known before they are read."""
        return None


class RegistryArticles(Config):
    """Articles and another source's summaries from the registry (`sgtr data list`)."""

    kind: Literal["registry"]
    articles: str  # The name of the set of articles.
    other_summaries: str  # The name of the set of the other writer's summaries.
    rows: PositiveInt | None = None  # Only the first so many articles are used. null: all of them.
    # train, held_out: only one half of the articles, which has none of the other. null: all of them.
    split: Split | None = None

    @property
    def name(self) -> str:
        """What they are called."""
        return self.articles

    def fingerprints(self) -> list[str]:
        """What decides the texts of the sets. Raises InputError."""
        return [set_key(name) for name in (self.articles, self.other_summaries)]

    def read(self) -> tuple[Texts, Texts]:
        """Articles by id, and another writer's summaries of them. Raises InputError or RunError, as fetching does."""
        chosen = half(texts_of(self.articles), self.split or "published")
        return dict(list(chosen.items())[: self.rows]), texts_of(self.other_summaries)

    def count(self) -> int | None:
        """How many there are at most."""
        return self.rows or find(self.articles).rows


ArticlesConfig = Annotated[WorldArticles | FileArticles | RegistryArticles, Field(discriminator="kind")]


@dataclass(frozen=True, eq=False)
class Articles(MadeNode):
    """`articles.json` and `other.json`, each `{id: text}`."""

    kind = "articles"
    version = 1
    source: WorldArticles | FileArticles | RegistryArticles
    fingerprints: tuple[str, ...]

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of their source."""
        return self.source.name

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        files = {"articles", "other_summaries"} if isinstance(self.source, FileArticles) else set[str]()
        settings: dict[str, Json] = self.source.model_dump(mode="json", exclude=files)  # where they lie decides nothing
        if settings.get("split") is None:  # the fingerprint of all articles is what it was before there were halves
            settings.pop("split", None)
        return {**settings, **({"fingerprints": list(self.fingerprints)} if self.fingerprints else {})}

    def registry_sets(self) -> list[str]:
        """See `Node`."""
        source = self.source
        return [source.articles, source.other_summaries] if isinstance(source, RegistryArticles) else []

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        articles, other = self.source.read()
        write_json(folder / "articles.json", articles)
        write_json(folder / "other.json", other)

    def texts(self, store: Store) -> Texts:
        """The articles by id, from the store if they are there. Raises InputError or RunError, as fetching does."""
        return read_texts(store.path(self) / "articles.json") if store.has(self) else self.source.read()[0]


def articles_node(source: WorldArticles | FileArticles | RegistryArticles) -> Articles:
    """The artifact of a config. Raises InputError for files that are missing or broken."""
    return Articles(source, tuple(source.fingerprints()))


def read_texts(path: Path) -> Texts:
    """A JSON object `{id: text}` of the store. Raises InputError for anything else."""
    data = read_json(path)
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    if len(texts) < len(data):
        raise InputError(f"{path}: expected a JSON object of id: text")
    return texts
