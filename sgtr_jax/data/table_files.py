"""Rows of tables: Parquet files and CSV files, each row with all its columns, as JSON has them."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from sgtr_jax.errors import InputError
from sgtr_jax.files import parse_json, read_text
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.packed import unpacked_name

# Columns that hold a list of turns, which a CSV file can only have as JSON text.
_OF_TURNS = ("messages", "conversations", "conversation")


def is_table(path: Path) -> bool:
    """Whether a file is a Parquet or CSV file by its name."""
    return unpacked_name(path).suffix in (".parquet", ".csv")


def table_rows(path: Path) -> Iterator[tuple[str, JsonObject]]:
    """Where each row stands, and the row. Raises InputError for a damaged file, and for one without rows."""
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _csv_rows(path)
    empty = True
    for where, row in rows:
        empty = False
        yield where, row
    if empty:
        raise InputError(f"{path}: the table has no rows")


def _parquet_rows(path: Path) -> Iterator[tuple[str, JsonObject]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as table:
            _check_columns(table.schema_arrow.names, path)
            number = 0
            for batch in table.iter_batches(1024):
                for row in batch.to_pylist():
                    number += 1
                    where = f"{path}: row {number}"
                    yield where, {name: as_json(value, f"{where}: {name}") for name, value in row.items()}
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as Parquet: {said}") from None


def _csv_rows(path: Path) -> Iterator[tuple[str, JsonObject]]:
    """A CSV file has text only. A column of turns holds them as JSON, and a number is the text of it."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        names = next(reader, [])
        _check_columns(names, path)
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if not cells:
                continue  # an empty line
            if len(cells) != len(names):
                raise InputError(f"{where}: {len(cells)} cells for {len(names)} columns; is a comma unquoted?")
            row: dict[str, Json] = dict(zip(names, cells, strict=True))
            for name in _OF_TURNS:
                if isinstance(text := row.get(name), str) and text:
                    row[name] = parse_json(text, f"{where}: {name}")
            yield where, row
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: cannot be read as CSV: {error}") from None


def _check_columns(names: list[str], path: Path) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path}: two columns are called {twice[0]!r}; rename one")
    if len(names) == 1 and (found := next((mark for mark in ";\t|" if mark in names[0]), None)) is not None:
        raise InputError(
            f"{path}: the columns seem to be divided by {found!r}; save the table with commas between them"
        )
    if any(not name.strip() for name in names):
        raise InputError(f"{path}: a column has no name; the first line of a CSV file names its columns")


def as_json(value: object, where: str) -> Json:
    """A cell as JSON has it: NaN is null, a date its text. Raises InputError for what has no such form."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, datetime.date | datetime.time | decimal.Decimal):
        return str(value)
    if isinstance(value, list | tuple):
        return [as_json(one, where) for one in value]
    if isinstance(value, Mapping):
        return {str(key): as_json(one, where) for key, one in value.items()}
    raise InputError(f"{where}: holds {type(value).__name__}, which is no text and no number; leave the column out")
