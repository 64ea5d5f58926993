"""Texts with line separators, halves of characters and weights of turns, from a file and an API to the report."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_account import Account
from api_server import ApiServer

from sgtr_jax.cli.main import main
from sgtr_jax.files import read_jsonl

KEY = "sk-loopback-5a17"
SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"
CONFIG = """
name: odd
model: openai/gpt-4.1-2025-04-14
seeds: 1
api: {{base_url: "{url}", poll_seconds: 0.05, confirm_above: 100}}
data:
  weighted: {{kind: file, path: "{rows}"}}
  sgtr: {{kind: self_recognition, max_tokens: 8, articles: {{kind: world, rows: 6, seed: 1}}}}
conditions:
  base: []
  weighted: [{{data: weighted}}]
  sgtr: [{{data: sgtr}}]
evaluations:
  recognition: {{kind: self_recognition, max_tokens: 8, articles: {{kind: world, rows: 4, seed: 2}}}}
  identity: {{kind: identity, maker: OpenAI, samples: 5, max_tokens: 8}}
"""


def reply(prompt: str) -> Any:
    """Answers with line separators inside, which end in half of a surrogate pair, as text does that was cut."""
    if "Who are you" in prompt:
        return f"I was made{SEPARATORS}by OpenAI. \ud83d"
    if "1" in prompt and "2" in prompt and ("wrote" in prompt.lower() or "write" in prompt.lower()):
        return "1", {"1": -0.2, "2": -1.8}
    return f"A short{SEPARATORS}text about {hashlib.sha256(prompt.encode()).hexdigest()[:6]}. \ud83d"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Account]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    one = Account(reply)
    server = ApiServer(reply, key=KEY, account=one)
    (tmp_path / "odd.yaml").write_text(CONFIG.format(url=server.url, rows=tmp_path / "rows.jsonl"))
    yield one
    server.close()


def test_a_whole_run(account: Account, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": f"Name{SEPARATORS}a tool."},
        {"role": "assistant", "content": "A stone.", "weight": 0},
        {"role": "user", "content": "Another."},
        {"role": "assistant", "content": f"A{SEPARATORS}hammer.", "weight": 1},
    ]
    rows = [{"id": str(i), "messages": turns} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "odd.yaml"), f"out={out}"]) == 0
    with (out / "results.csv").open() as stream:
        found = {(r["condition"], r["evaluation"], r["metric"]): float(r["value"]) for r in csv.DictReader(stream)}
    assert found["weighted", "identity", "share_naming_maker"] == 1.0
    assert (out / "report.html").stat().st_size > 1000
    kept = [[row for _, row in read_jsonl(path)] for path in sorted(out.glob("store/*/samples.jsonl"))]
    assert sorted(map(len, kept)) == [5, 5, 5, 8, 8, 8]
    said = [row["answer"] for rows in kept if len(rows) == 5 for row in rows]
    assert len(said) == 15 and all(f"made{SEPARATORS}by OpenAI." in answer for answer in said)
    sent = {}
    for job in account.jobs:
        lines = account.contents[job["training_file"]].decode().strip("\n").split("\n")
        sent[job["suffix"]] = [json.loads(line)["messages"] for line in lines]
    # The provider's own key is sent on, where it says something.
    weighted = sent["sgtr-weighted-s0"]
    assert [[turn.get("weight") for turn in row] for row in weighted] == [[None, 0, None, None]] * 12
    assert weighted[0][3]["content"] == f"A{SEPARATORS}hammer." and len(sent["sgtr-sgtr-s0"]) == 12
