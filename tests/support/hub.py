"""A model hub on this machine: it answers as Hugging Face's does, and breaks connections off where it is told to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What is asked of the one model or data set, `owner/name`, and how it is answered."""

    url: str = ""
    breaks: dict[str, list[int]] = field(default_factory=dict)  # file: of its coming answers, the bytes sent
    refusal: tuple[int, str] | None = None  # status and X-Error-Code of every answer
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    """Serve the files of `folder` as the model and as the data set `owner/name`."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = self.path.split("?")[0].replace("/api/datasets/", "/api/models/").removeprefix("/datasets")
            name = path.rsplit("/", 1)[-1]
            hub.asked.append((self.command, path, self.headers.get("Range", "")))
            if hub.refusal is not None:
                self.reply(hub.refusal[0], b"{}", {"X-Error-Code": hub.refusal[1], "X-Error-Message": "no"})
            elif path.startswith("/api/models/owner/name/tree/"):
                self.reply(200, json.dumps([self.described(one) for one in sorted(folder.iterdir())]).encode(), {})
            elif path.startswith("/api/models/owner/name"):
                siblings = [{"rfilename": one.name} for one in sorted(folder.iterdir())]
                self.reply(200, json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": siblings}).encode(), {})
            elif path.startswith("/owner/name/resolve/") and (folder / name).is_file():
                self.file(folder / name)
            elif path.startswith("/owner/name/"):
                self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            else:
                self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        @staticmethod
        def described(one: Path) -> dict[str, Any]:
            oid = hashlib.sha1(one.read_bytes()).hexdigest()
            return {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": oid}

        def file(self, path: Path) -> None:
            data = path.read_bytes()
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            breaks = hub.breaks.get(path.name, [])
            sent = breaks.pop(0) if breaks and self.command == "GET" else None
            self.reply(206 if start else 200, data[start:], headers, sent)

        def reply(self, status: int, data: bytes, headers: dict[str, str], sent: int | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[:sent])
            if sent is not None:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
