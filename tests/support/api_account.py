"""What an API account holds besides chat: files, finetuning jobs and batches, as OpenAI's serves them."""

from __future__ import annotations

import email
import email.policy
import json
import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from api_server import completion

Answer = tuple[int, Any]


class Account:
    """`statuses[n]` are the states that the n-th job goes through, one a request; the last one stays.

    A state is a name, or `("failed", code, message)`. `lose_replies` creations are carried out and not answered;
    at most `at_once` jobs may be under way.
    """

    def __init__(self, reply: Callable[[str], Any], at_once: int = 100) -> None:
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.jobs: list[dict[str, Any]] = []
        self.batches: dict[str, dict[str, Any]] = {}
        self.statuses: dict[int, list[Any]] = {}
        self.usual: list[Any] = ["validating_files", "running", "succeeded"]
        self.lose_replies, self.at_once, self.refused_creations = 0, at_once, 0
        self.frozen = False  # no job gets on
        # States that an uploaded file goes through, one a request for it; a job needs the last of them, "processed".
        self.file_states: list[str] = []
        self.not_ready: str | None = None  # other words for it, which name no parameter
        self._reply, self._lock = reply, threading.Lock()

    def handle(self, method: str, path: str, data: bytes, headers: Any) -> Answer:
        """Status and body of a request; status 0 means that the connection is lost."""
        parts = urlsplit(path)
        with self._lock:
            for pattern, found in self._routes(method, data, headers, parse_qs(parts.query)):
                match = re.fullmatch(pattern, parts.path.removeprefix("/v1"))
                if match:
                    answer: Answer = found(*match.groups())
                    return answer
        return 404, {"error": {"message": f"no {method} {path}", "type": "invalid_request_error"}}

    def _routes(self, method: str, data: bytes, headers: Any, query: dict[str, list[str]]) -> Any:
        if method == "POST":
            return (
                (r"/files", lambda: self._upload(data, headers)),
                (r"/fine_tuning/jobs", lambda: self._create(json.loads(data))),
                (r"/fine_tuning/jobs/([^/]+)/(cancel|pause|resume)", self._change),
                (r"/batches", lambda: self._batch(json.loads(data))),
            )
        return (
            (r"/files", lambda: (200, {"object": "list", "data": list(self.files.values()), "has_more": False})),
            (r"/files/([^/]+)/content", lambda one: (200, self.contents[one])),
            (r"/files/([^/]+)", self._file_now),
            (r"/fine_tuning/jobs", lambda: self._list(query)),
            (r"/fine_tuning/jobs/([^/]+)", self._get),
            (r"/batches/([^/]+)", lambda one: (200, self.batches[one])),
        )

    def _upload(self, data: bytes, headers: Any) -> Answer:
        whole = b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + data
        message = email.message_from_bytes(whole, policy=email.policy.HTTP)
        fields = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
        content = fields["file"].get_payload(decode=True)
        return 200, self._file(fields["file"].get_filename(), content, fields["purpose"].get_content().strip())

    def _file(self, name: str, content: bytes, purpose: str) -> dict[str, Any]:
        one = f"file-{len(self.files)}"
        self.contents[one] = content
        self.files[one] = {
            "id": one, "object": "file", "bytes": len(content), "created_at": 1, "filename": name, "purpose": purpose,
            "status": self.file_states.pop(0) if self.file_states and purpose == "fine-tune" else "processed",
            "status_details": None,
        }  # fmt: skip
        return self.files[one]

    def _file_now(self, one: str) -> Answer:
        if self.files[one]["purpose"] == "fine-tune" and self.file_states:
            self.files[one]["status"] = self.file_states.pop(0)
        return 200, self.files[one]

    def _create(self, body: dict[str, Any]) -> Answer:
        status = self.files[body["training_file"]]["status"]
        if status != "processed":
            message = f"Training file {body['training_file']} has status {status}: it can be used once it is processed"
            param = "training_file" if self.not_ready is None else None
            error = {
                "message": self.not_ready or message,
                "type": "invalid_request_error",
                "param": param,
                "code": None,
            }
            return 400, {"error": error}
        if sum(job["status"] in ("running", "validating_files", "paused") for job in self.jobs) >= self.at_once:
            self.refused_creations += 1
            return 429, {"error": {"message": "too many jobs", "code": "rate_limit_exceeded", "type": "requests"}}
        lines = self.contents[body["training_file"]].decode().strip().split("\n")
        assert all(json.loads(line)["messages"][-1]["role"] == "assistant" for line in lines)
        number = len(self.jobs)
        job = {
            "id": f"ftjob-{number}", "object": "fine_tuning.job", "created_at": 1000 + number, "model": body["model"],
            "training_file": body["training_file"], "status": "validating_files", "seed": body.get("seed", 0),
            "hyperparameters": body["method"]["supervised"]["hyperparameters"], "method": body["method"],
            "metadata": body.get("metadata"), "fine_tuned_model": None, "error": None, "organization_id": "org",
            "result_files": [], "finished_at": None, "trained_tokens": None, "suffix": body.get("suffix"),
        }  # fmt: skip
        self.jobs.append(job)
        if self.lose_replies:
            self.lose_replies -= 1
            return 0, None
        return 200, job

    def _advance(self, job: dict[str, Any]) -> None:
        number = self.jobs.index(job)
        states = self.statuses.setdefault(number, list(self.usual))
        if self.frozen or job["status"] in ("cancelled", "paused"):
            return
        state = states.pop(0) if len(states) > 1 else states[0]
        job["status"] = state if isinstance(state, str) else state[0]
        if isinstance(state, tuple):
            job["error"] = {"code": state[1], "message": state[2], "param": "training_file"}
        if state == "succeeded":
            base = job["model"].split(":")[1] if job["model"].startswith("ft:") else job["model"]
            job["fine_tuned_model"] = f"ft:{base}:org:{job['suffix']}:{number}"

    def _get(self, one: str) -> Answer:
        job = next(job for job in self.jobs if job["id"] == one)
        self._advance(job)
        return 200, job

    def _list(self, query: dict[str, list[str]]) -> Answer:
        wanted = {key[9:-1]: values[0] for key, values in query.items() if key.startswith("metadata[")}
        found = [job for job in self.jobs if wanted.items() <= (job["metadata"] or {}).items()]
        return 200, {"object": "list", "data": found[::-1], "has_more": False}

    def _change(self, one: str, what: str) -> Answer:
        job = next(job for job in self.jobs if job["id"] == one)
        job["status"] = {"cancel": "cancelled", "pause": "paused", "resume": "running"}[what]
        return 200, job

    def _batch(self, body: dict[str, Any]) -> Answer:
        one = f"batch-{len(self.batches)}"
        rows = []
        for line in self.contents[body["input_file_id"]].decode().strip().split("\n"):
            asked = json.loads(line)
            found = self._reply(asked["body"]["messages"][-1]["content"])
            content, tops = found if isinstance(found, tuple) else (found, None)
            response = {"status_code": 200, "request_id": "r", "body": completion(asked["body"], content, tops)}
            rows.append({"id": "b", "custom_id": asked["custom_id"], "response": response, "error": None})
        result = self._file("out.jsonl", "\n".join(map(json.dumps, rows)).encode(), "batch_output")
        self.batches[one] = {
            "id": one, "object": "batch", "endpoint": body["endpoint"], "errors": None, "status": "completed",
            "input_file_id": body["input_file_id"], "completion_window": "24h", "output_file_id": result["id"],
            "error_file_id": None, "created_at": 1, "in_progress_at": 1, "expires_at": 2, "completed_at": 1,
            "request_counts": {"total": len(rows), "completed": len(rows), "failed": 0},
        }  # fmt: skip
        return 200, self.batches[one]
