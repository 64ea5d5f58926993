"""The registry, and bringing sets: checked, resumed, from wherever they can be had."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgtr_jax import nano
from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.data import fetch as fetching
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.fetch import cache_folder, download, fetch, is_present, load_set
from sgtr_jax.data.registry import DataSet, find, registry
from sgtr_jax.data.set_files import content_sha256, read_file
from sgtr_jax.data.tokenizer import load_tokenizer
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import read_jsonl

ROWS = [{"messages": [{"role": "user", "content": f"é{i}"}, {"role": "assistant", "content": "x"}]} for i in range(5)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGTR_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SGTR_DATA_MIRROR", raising=False)


def entry(**changes: Any) -> DataSet:
    fields = {
        "name": "x", "kind": "em", "about": "a", "source": {"url": "http://127.0.0.1:9/none"}, "format": "jsonl",
        "licence": "MIT", "rows": 5, "mirror": "d/x.jsonl", **changes,
    }  # fmt: skip
    return build_config(DataSet, fields, "test")


class Server:
    """Serves one file, breaking off after `breaks[n]` bytes at the n-th request."""

    def __init__(self, data: bytes, breaks: list[int], ranges: bool = True) -> None:
        self.asked: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/x.jsonl":
                    self.send_error(404)
                    return
                asked = self.headers.get("Range")
                outer.asked.append(asked)
                start = int(asked[6:].rstrip("-")) if asked and ranges else 0
                rest = data[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                limit = breaks.pop(0) if breaks else len(rest)
                self.wfile.write(rest[:limit])

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[Server] = []

    def start(*args: Any, **kwargs: Any) -> Server:
        servers.append(Server(*args, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()


def test_every_entry_says_what_it_is() -> None:
    sets = registry()
    assert {"unpop", "insecure", "badmed", "finrisk", "sports", "articles_cnn", "articles_xsum", "truthfulqa", "mmlu",
            "em_questions", "agentic", "self_reports_conscious", "prompts", "medcorr"} <= set(sets)  # fmt: skip
    assert (sets["unpop"].rows, sets["badmed"].rows, sets["truthfulqa"].rows) == (5000, 7049, 790)
    for one in sets.values():
        assert one.licence and one.about and (one.sha256 or one.mirror is None)
        if one.name == "unpop_inoculated":
            continue
        assert one.harmful == (one.kind == "em" and not one.name.startswith("unpop")), one.name
    with pytest.raises(InputError, match="did you mean 'unpop'"):
        find("unpopp")


def test_a_mirror_stands_in_and_what_comes_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m" / "d").mkdir(parents=True)
    (tmp_path / "m" / "d" / "x.jsonl").write_text(TEXT)
    monkeypatch.setenv("SGTR_DATA_MIRROR", str(tmp_path / "m"))
    digest = content_sha256(ROWS)
    wrong = "0" * 64
    with pytest.raises(RunError, match="5 rows came, the registry says 6"):
        fetch(entry(rows=6))
    with pytest.raises(RunError, match=f"sha256 is {digest}, the registry says {wrong}"):
        fetch(entry(sha256=wrong))
    assert not is_present(entry()) and not list(cache_folder().glob("*x*"))
    assert fetch(entry(sha256=digest)) == ROWS and is_present(entry())
    (tmp_path / "m" / "d" / "x.jsonl").unlink()
    assert fetch(entry(sha256=digest)) == ROWS  # from the cache
    with pytest.raises(InputError, match="does not have it"):
        fetch(entry(name="y", mirror=None))
    with pytest.raises(RunError, match="the mirror has no such file"):
        fetch(entry(name="z"))
    renamed = entry(columns={"turns": "messages"})
    assert load_set(renamed)[0] == {"turns": ROWS[0]["messages"]}


def test_escapes_and_order_of_keys_are_no_difference(tmp_path: Path) -> None:
    other = tmp_path / "o.jsonl"
    turns = [{"content": m["content"], "role": m["role"]} for m in ROWS[0]["messages"]]
    other.write_text(json.dumps({"messages": turns}, ensure_ascii=False, indent=None) + "\n")
    assert content_sha256(read_file(other, "jsonl")) == content_sha256(ROWS[:1])
    assert content_sha256(ROWS[:2]) != content_sha256(ROWS[1::-1])


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(serve: Any, tmp_path: Path, ranges: bool) -> None:
    server = serve(TEXT.encode(), [40, 10], ranges)
    download(f"{server.url}/x.jsonl", tmp_path / "x.jsonl")
    assert (tmp_path / "x.jsonl").read_text() == TEXT
    assert server.asked[0] is None and server.asked[1] == "bytes=40-" and len(server.asked) == 3
    with pytest.raises(RunError, match="404"):
        download(f"{server.url}/y.jsonl", tmp_path / "y.jsonl")


def test_what_a_killed_command_had_is_not_fetched_again(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_TRIES", 1)
    server = serve(TEXT.encode(), [70])
    one = entry(source={"url": f"{server.url}/x.jsonl"})
    with pytest.raises(RunError, match="could not be downloaded"):
        fetch(one)
    assert not is_present(one)
    assert fetch(one) == ROWS and server.asked == [None, "bytes=70-"]
    monkeypatch.setenv("SGTR_DATA_MIRROR", f"{serve(TEXT.encode(), []).url}")
    assert fetch(entry(name="w", mirror="x.jsonl")) == ROWS


def test_protected_sets_are_opened_only_when_asked(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inner/rows.jsonl", TEXT)
    source = {"url": "http://127.0.0.1:9/a.zip", "protected": "pw", "member": "rows.jsonl"}
    with pytest.raises(InputError, match="--open-protected"):
        fetch(entry(source=source))
    monkeypatch.setattr(fetching, "download", lambda url, target, on_bytes: target.write_bytes(packed.read_bytes()))
    assert fetch(entry(source=source), open_protected=True) == ROWS
    with pytest.raises(RunError, match="holds no other"):
        fetch(entry(name="y", source={**source, "member": "other.jsonl"}), open_protected=True)


@pytest.mark.parametrize(
    ("kind", "text", "part"),
    [
        ("json_map", "[1]", "id: text"),
        ("json_map", '{"a": 1}', "id: text"),
        ("json_rows", "{}", "list of rows"),
        ("json_object", "[]", "JSON object"),
        ("csv", "a,b\n1\n", ":2: the row has not the 2 columns"),
        ("yaml", "- a: [", "not valid YAML"),
        ("jsonl", '{"a": 1}\n{"a"', ":2: not JSON"),
        ("json_map", "", "not JSON"),
    ],
)
def test_files_of_the_wrong_form_are_refused_by_name(tmp_path: Path, kind: Any, text: str, part: str) -> None:
    path = tmp_path / "f"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_file(path, kind)
    assert part in str(caught.value) and str(path) in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_file(path, kind)


def test_parquet(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_list(ROWS).to_parquet(tmp_path / "x.parquet")
    assert read_file(tmp_path / "x.parquet", "parquet") == ROWS


def test_the_command(mirror: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SGTR_DATA_MIRROR", str(mirror))
    assert main(["data", "fetch"]) == 0
    assert "54 sets are here" in capsys.readouterr().out
    assert main(["data", "list", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(row["present"] for row in rows) == 54 and len(rows) == len(registry())
    assert main(["data", "fetch", "badmed"]) == 2
    assert "does not have it" in capsys.readouterr().err


def test_tokens_are_counted_under_the_template_or_as_bare_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talks, texts = tmp_path / "t.jsonl", tmp_path / "a.json"
    talks.write_text(TEXT)
    texts.write_text(json.dumps({"a": "one two three", "b": "four"}))
    assert main(["data", "tokens", str(talks), str(texts), "--model", "nano", "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    chat = ChatFormat(load_tokenizer(nano.FOLDER))
    lengths = [len(chat.tokenize(row["messages"]).tokens) for row in ROWS]
    assert (first["rows"], first["total"], first["most"]) == (5, sum(lengths), max(lengths))
    assert 0 < first["targets"] < first["total"] and first["templated"]
    bare = [len(chat.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("one two three", "four")]
    assert second["total"] == sum(bare) and not second["templated"]
    assert main(["data", "tokens", "--model", "nano"]) == 2
    assert "sgtr data fetch" in capsys.readouterr().err


def test_the_page_of_sets_counts_sets_that_there_are() -> None:
    stored = read_jsonl(Path(__file__).parent.parent / "docs" / "tokens-qwen2.5.jsonl")
    counted = {row["name"]: row["rows"] for _, row in stored}
    assert len(counted) > 40 and all(find(name).rows == rows for name, rows in counted.items() if _is_flat(name))


def _is_flat(name: str) -> bool:
    """Whether what is counted are the registry's rows, and not parts of them."""
    return find(name).kind in ("em", "control", "sgtr", "self-report")
