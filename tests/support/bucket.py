"""A bucket of Google Cloud Storage on this machine: what it answers is an emulator's, the clients are the real ones."""

from __future__ import annotations

import logging
import sys
import time

from gcp_storage_emulator.server import create_server


def serve(port: int) -> None:
    """Serve the bucket `bucket` until the process is ended."""
    logging.disable(logging.INFO)
    create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket").start()
    print("ready", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
