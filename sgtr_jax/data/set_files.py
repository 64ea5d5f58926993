"""Files of data sets as rows, and the digest of their content."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from sgtr_jax.errors import InputError
from sgtr_jax.files import parse_json, read_jsonl, read_text
from sgtr_jax.json_types import JsonObject
from sgtr_jax.yaml_text import parse_yaml

# json_map: {id: text}. json_rows: a list, or an object with one under "questions". json_object: one row.
Format = Literal["jsonl", "json_map", "json_rows", "json_object", "csv", "yaml", "parquet", "hub"]
Rows = list[JsonObject]


def read_file(path: Path, kind: Format) -> Rows:
    """The rows of a file. Raises InputError naming the file, and the line where there are lines."""
    if kind == "jsonl":
        return [row for _, row in read_jsonl(path)]
    if kind == "parquet":
        from datasets import load_dataset

        table: Rows = load_dataset("parquet", data_files=str(path), split="train").to_list()
        return table
    text = read_text(path)
    if kind == "csv":
        return _csv(text, path)
    data = parse_yaml(text, str(path)) if kind == "yaml" else parse_json(text, str(path))
    if kind == "json_map":
        if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
            raise InputError(f"{path}: expected a JSON object of id: text")
        return [{"id": key, "text": value} for key, value in data.items()]
    if kind == "json_object":
        if not isinstance(data, dict):
            raise InputError(f"{path}: expected a JSON object, found {type(data).__name__}")
        return [data]
    listed = data.get("questions") if isinstance(data, dict) else data
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{path}: expected a list of rows, found {type(data).__name__}")
    return [row if isinstance(row, dict) else {"text": row} for row in listed]


def content_sha256(rows: Iterable[object]) -> str:
    """Digest of rows with a JSON form: the same for files that differ in escapes, spacing or order of keys."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def _csv(text: str, path: Path) -> Rows:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: Rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{path}:{reader.line_num}: the row has not the {_width(reader.fieldnames)} columns")
            rows.append(dict(row))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    return rows


def _width(names: Sequence[str] | None) -> int:
    return len(names or ())
