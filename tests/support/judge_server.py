"""A loopback judge with a manner of its own: how it writes numbers, what it refuses, what it does to a request."""

from __future__ import annotations

import http.server
import json
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Distribution = Mapping[str, float]  # of whole replies


def by_words(text: str) -> list[str]:
    """A tokenizer that writes every number as one token."""
    return re.findall(r"[0-9]+|[^0-9]+", text)


def by_digits(text: str) -> list[str]:
    """A tokenizer that writes one token a digit, as Qwen2.5's."""
    return re.findall(r"[0-9]|[^0-9]+", text)


def by_pairs(text: str) -> list[str]:
    """A tokenizer that writes at most two digits as a token."""
    return re.findall(r"[0-9]{1,2}|[^0-9]+", text)


def by_pairs_from_the_end(text: str) -> list[str]:
    """The same, where 100 is written 1, 00."""
    return re.findall(r"[0-9](?=[0-9]{2}(?![0-9]))|[0-9]{1,2}|[^0-9]+", text)


class JudgeServer:
    """Replies by `says(prompt)`: a text, or texts with their probabilities, of which the likeliest is said.

    `refuses` are settings that are answered with HTTP 400; `odd(n, prompt)` may give the status and the bytes of the
    n-th request for a prompt instead of a reply. `thought` tokens are spent before the reply. With `leads_to` it only
    redirects.
    """

    def __init__(
        self,
        says: Callable[[str], str | Distribution],
        tokens: Callable[[str], Sequence[str]] = by_words,
        refuses: Sequence[str] = (),
        odd: Callable[[int, str], tuple[int, bytes] | None] = lambda n, prompt: None,
        thought: int = 0,
        silent: bool = False,
        usage: bool = True,
        leads_to: str | None = None,
    ) -> None:
        self.odd = odd
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        asked: dict[str, int] = {}
        lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][-1]["content"] if "messages" in body else ""
                with lock:
                    outer.paths.append(self.path)
                    outer.bodies.append(body)
                    asked[prompt] = asked.get(prompt, -1) + 1
                    number = asked[prompt]
                if not self.path.endswith("/v1/chat/completions"):
                    self.send(404, b'{"error": {"message": "no such path"}}')
                    return
                refused = next((name for name in refuses if body.get(name) is not None), None)
                strange = outer.odd(number, prompt)
                if leads_to is not None:
                    self.send(307, b"{}")
                    return
                if refused is not None:
                    hint = " Use 'max_completion_tokens' instead." if refused == "max_tokens" else ""
                    message = f"Unsupported parameter: '{refused}' is not supported with this model.{hint}"
                    self.send(400, json.dumps({"error": {"message": message, "param": refused}}).encode())
                elif strange is not None:
                    self.send(*strange)
                else:
                    self.send(200, json.dumps(reply(body, says(prompt))).encode())

            def send(self, status: int, data: bytes) -> None:
                self.send_response(status)
                kind = "application/json" if data[:1] == b"{" else "text/html"
                led = () if leads_to is None else (("Location", leads_to),)
                for key, value in (("Content-Type", kind), ("Content-Length", str(len(data))), *led):
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        def reply(body: dict[str, Any], said: str | Distribution) -> dict[str, Any]:
            likely = {said: 1.0} if isinstance(said, str) else said
            text = max(likely, key=lambda one: likely[one])
            limit = body.get("max_tokens") or body.get("max_completion_tokens") or 10**6
            kept = list(tokens(text))[: max(0, limit - thought)]
            choice: dict[str, Any] = {
                "index": 0, "message": {"role": "assistant", "content": "".join(kept)}, "logprobs": None,
                "finish_reason": "stop" if "".join(kept) == text else "length",
            }  # fmt: skip
            if body.get("logprobs") and not silent and kept:
                choice["logprobs"] = {"content": [_logprob(kept[:i], kept[i], likely) for i in range(len(kept))]}
            counted = {"prompt_tokens": 100, "completion_tokens": len(kept) + thought, "total_tokens": 100 + len(kept)}
            return {
                "id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice],
                **({"usage": counted} if usage else {}),
            }  # fmt: skip

        def _logprob(before: list[str], token: str, likely: Distribution) -> dict[str, Any]:
            after: dict[str, float] = {}
            for text, probability in likely.items():
                parts = list(tokens(text))
                if parts[: len(before)] == before and len(parts) > len(before):
                    after[parts[len(before)]] = after.get(parts[len(before)], 0.0) + probability
            total = sum(after.values())
            tops = [{"token": t, "logprob": math.log(p / total), "bytes": None} for t, p in after.items()]
            return {"token": token, "logprob": 0.0, "bytes": None, "top_logprobs": tops}

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that went away

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=lambda: self._server.serve_forever(0.02), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
