"""A bucket of Google Cloud Storage on this machine: what it answers is an emulator's, the clients are the real ones."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

_LOCK = threading.Lock()


def _with_precondition(insert: Callable[..., Any]) -> Callable[..., Any]:
    """As Google's: an object with `ifGenerationMatch=0` is created only where there is none. The emulator lacks it."""

    def checked(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> Any:
        if request.query.get("ifGenerationMatch") != ["0"]:
            return insert(request, response, storage, *args, **kwargs)
        named = request.query.get("name") or [request.data["meta"]["name"]]
        with _LOCK:
            try:
                storage.get_file_obj(request.params["bucket_name"], named[0])
            except NotFound:
                return insert(request, response, storage, *args, **kwargs)
        response.status = HTTPStatus.PRECONDITION_FAILED
        return None

    return checked


objects.insert = _with_precondition(objects.insert)
from gcp_storage_emulator.server import create_server  # noqa: E402 - its routes take what stands in `objects` then


def serve(port: int) -> None:
    """Serve the bucket `bucket` until the process is ended."""
    logging.disable(logging.INFO)
    create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket").start()
    print("ready", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
