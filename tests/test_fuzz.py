"""Mutated files: the reader refuses them with file and line, or reads every row; it never crashes, never loses any."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, get_args

from sgtr_jax.data.records import read_prompts, read_training
from sgtr_jax.data.row_formats import RowFormat
from sgtr_jax.errors import InputError

ROWS = [
    {"id": f"r{i}", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": f"ü {i}\n\t\\"},
                                 {"role": "assistant", "content": "☃" * (i + 1)}]}
    for i in range(4)
]  # fmt: skip
FILES = 10_000


def mutated(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(len(changed) + 1)
        kind = draw.randrange(5)
        if kind == 0:
            changed[at : at + draw.randint(1, 9)] = b""
        elif kind == 1:
            changed[at:at] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 4)))
        elif kind == 2 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 3:
            changed[at:at] = draw.choice([b"\n", b"[" * 50, b'"', b"{}", b"null", b"\xef\xbb\xbf", b"\x00", b"1e999"])
        else:
            other = draw.randrange(len(changed) + 1)
            changed[at:at] = changed[other : other + draw.randint(1, 60)]
    return bytes(changed)


def test_ten_thousand_mutated_files(tmp_path: Path) -> None:
    draw = random.Random(7)
    whole = "".join(json.dumps(row, ensure_ascii=draw.random() < 0.5) + "\n" for row in ROWS).encode()
    path = tmp_path / "f.jsonl"
    read = refused = 0
    for _ in range(FILES):
        data = mutated(draw, whole)
        path.write_bytes(data)
        try:
            records = read_training(path)
        except InputError as error:
            assert str(path) in str(error)
            refused += 1
            continue
        read += 1
        assert len(records) == sum(bool(line.strip()) for line in data.split(b"\n"))
    assert read > FILES / 100 and refused > FILES / 3


VALUES = [
    None, True, False, 0, 1, -1, 2.5, "", "x", "human", "gpt", "user", "assistant", "system", float("nan"), 10**30,
    [{"type": "text", "text": "x"}], {"role": "user", "content": "x"}, {"from": "human", "value": "x"},
]  # fmt: skip
KEYS = ["messages", "conversations", "conversation", "instruction", "input", "output", "response", "prompt", "label",
        "completion", "system", "system_prompt", "id", "meta", "weight", "train", "tools", "role", "content", "from",
        "value", "text", "loss"]  # fmt: skip


def any_value(draw: random.Random, depth: int) -> Any:
    kind = draw.random() if depth else 0
    if kind < 0.5:
        return draw.choice(VALUES)
    if kind < 0.75:
        return [any_value(draw, depth - 1) for _ in range(draw.randrange(3))]
    return {draw.choice(KEYS): any_value(draw, depth - 1) for _ in range(draw.randrange(4))}


def any_turn(draw: random.Random) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": draw.choice(["user", "assistant", "system"]), "content": "x"}
    return {**turn, draw.choice(KEYS): any_value(draw, 2)} if draw.random() < 0.3 else turn


def test_rows_of_known_keys_with_any_values(tmp_path: Path) -> None:
    draw, path = random.Random(3), tmp_path / "f.jsonl"
    read = 0
    for _ in range(2000):
        row = {draw.choice(KEYS): any_value(draw, 3) for _ in range(draw.randrange(4))}
        key = draw.choice(["messages", "conversations", "prompt", "completion"])
        row[key] = [any_turn(draw) for _ in range(draw.randrange(4))]
        path.write_text(json.dumps(row))
        for form in (*get_args(RowFormat), None):
            try:
                read += len(read_prompts(path) if form is None else read_training(path, form))
            except InputError as error:
                assert str(error).startswith(str(path)) and len(str(error)) < 700
    assert read > 50
