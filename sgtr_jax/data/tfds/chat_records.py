"""The TFDS builder of published sets (TFDS wants its class in an importable module of its own)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np
import tensorflow_datasets as tfds

from sgtr_jax.data.records import Message, Record


class StoredRow(TypedDict):
    """A row of a published set; every turn has its weight."""

    id: str
    messages: list[Message]


class ChatRecords(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """Rows `{"id", "messages": [{"role", "content", "weight"}]}` in the order they were given."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        records: Sequence[Record] = (),
        about: str = "",
        licence: str = "",
        sha256: str = "",
        data_dir: str,
        file_format: str,
    ) -> None:
        self._records, self._about, self._licence, self._sha256 = records, about, licence, sha256
        super().__init__(data_dir=data_dir, file_format=file_format)

    def _info(self) -> tfds.core.DatasetInfo:
        turns = tfds.features.Sequence(
            {"role": tfds.features.Text(), "content": tfds.features.Text(), "weight": np.int32}
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"id": tfds.features.Text(), "messages": turns}),
            description=self._about or None,
            license=self._licence or None,
            metadata=tfds.core.MetadataDict(sha256=self._sha256),
            # Rows keep the order they were given in: what reads them shuffles with a seed of its own.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, StoredRow]]]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, StoredRow]]:
        for i, record in enumerate(self._records):
            yield i, {"id": record.id, "messages": [{"weight": 1, **message} for message in record.messages]}
