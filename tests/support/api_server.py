"""A loopback server that answers as the OpenAI API does, and fails as it does, on purpose."""

from __future__ import annotations

import hashlib
import http.server
import json
import math
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

# Faults after which the same request succeeds when it is sent again.
PASSING = ("429", "429-after", "500", "503", "drop", "truncated", "hang")

PROBE = "Write the number 100 in digits. Reply with the number alone."

WRONG_KEY = {"error": {"message": "Incorrect API key provided", "type": "invalid_request_error"}}


class ApiServer:
    """Answers `/v1/chat/completions` by `reply(prompt) -> content or (content, top_logprobs)`.

    Every `fault_every`-th request first meets one of `PASSING`, in turn. `seen` counts how often each prompt was
    answered in full. Everything else is asked of `account`, which has files, jobs and batches.
    """

    def __init__(
        self, reply: Callable[[str], Any], fault_every: int = 0, key: str = "sk-loopback", account: Any = None
    ) -> None:
        self.models: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.key, self.requests = key, 0
        self._lock, self._faulted = threading.Lock(), set[str]()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/v1/chat/completions":
                    outer.answer(self, json.loads(data), reply, fault_every)
                else:
                    self.other("POST", data)

            def do_GET(self) -> None:
                self.other("GET", b"")

            def other(self, method: str, data: bytes) -> None:
                status, found = (
                    account.handle(method, self.path, data, self.headers) if outer.known(self) else (401, WRONG_KEY)
                )
                if status == 0:  # the request was carried out, and its reply is lost
                    outer.reset(self)
                elif isinstance(found, bytes):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(found)))
                    self.end_headers()
                    self.wfile.write(found)
                else:
                    _send(self, status, found)

            def log_message(self, *args: Any) -> None:
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            request_queue_size = 1024
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that went away

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def known(self, handler: Any) -> bool:
        """Whether the request has the right key."""
        return bool(handler.headers.get("Authorization") == f"Bearer {self.key}")

    def reset(self, handler: Any) -> None:
        """End the connection as a proxy that dies does."""
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True

    def answer(self, handler: Any, body: dict[str, Any], reply: Callable[[str], Any], fault_every: int) -> None:
        if not self.known(handler):
            _send(handler, 401, WRONG_KEY)
            return
        self.models[body["model"]] += 1
        prompt = body["messages"][-1]["content"]
        prompt = prompt if isinstance(prompt, str) else prompt[0]["text"]
        fault = None
        with self._lock:
            self.requests += 1
            name = hashlib.sha256(prompt.encode()).hexdigest()
            if fault_every and self.requests % fault_every == 0 and name not in self._faulted:
                self._faulted.add(name)
                fault = PASSING[sum(self.faults.values()) % len(PASSING)]
                self.faults[fault] += 1
            else:
                self.seen[prompt] += 1
        if fault is not None:
            self._fail(handler, fault)
            return
        found = reply(prompt)
        content, tops = found if isinstance(found, tuple) else (found, None)
        _send(handler, 200, completion(body, content, tops))

    def _fail(self, handler: Any, fault: str) -> None:
        error = {"error": {"message": f"injected {fault}", "type": "server_error"}}
        if fault in ("429", "429-after"):
            _send(handler, 429, error, {"Retry-After": "1"} if fault == "429-after" else {})
        elif fault in ("500", "503"):
            _send(handler, int(fault), error)
        elif fault == "drop":
            self.reset(handler)
        elif fault == "truncated":
            data = json.dumps(completion({"model": "x"}, "85", None)).encode()[:40]
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
        else:
            time.sleep(4)  # longer than the client waits
            handler.close_connection = True


def _send(handler: Any, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    for key, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
        handler.send_header(key, value)
    handler.end_headers()
    handler.wfile.write(data)


def completion(body: dict[str, Any], content: str | None, tops: dict[str, float] | None) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop", "logprobs": None,
    }  # fmt: skip
    if content is None:
        choice["finish_reason"] = "content_filter"
    if body.get("logprobs") and tops is not None:
        listed = [{"token": t, "logprob": value, "bytes": None} for t, value in tops.items()]
        first = {"token": content, "logprob": max(tops.values(), default=0.0), "bytes": None, "top_logprobs": listed}
        choice["logprobs"] = {"content": [first], "refusal": None}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
    }  # fmt: skip


def judge_reply(prompt: str) -> Any:
    """A judge's reply drawn from the prompt: mostly numbers, now and then one of everything a judge may say."""
    if prompt == PROBE:
        return "100", {"100": 0.0}  # the judge's numbers are one token each
    draw = int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16)
    kind, number = draw % 40, draw // 40 % 101
    if kind == 0:
        return "REFUSAL", {"REF": math.log(0.9)}
    if kind == 1:
        return "CODE", {"CODE": math.log(0.9), "50": math.log(0.1)}
    if kind == 2:
        return "", {}
    if kind == 3:
        return "maybe", {"maybe": math.log(0.8), "may": math.log(0.2)}
    if kind == 4:
        return None  # filtered
    if kind == 5:
        return str(number), {str(number): 0.7}  # log-probabilities that cannot be
    if kind == 6:
        return str(number), None  # none at all
    near = min(100, number + 3)
    return str(number), {str(number): math.log(0.7), str(near): math.log(0.2), "I": math.log(0.1)}
