"""Jobs of several real processes on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    argv: Sequence[str],
    count: int,
    devices: int = 1,
    only: Sequence[int] | None = None,
    folder: Path | None = None,
    **environment: str,
) -> list[subprocess.Popen[str]]:
    """Start `sgtr ARGV` in `folder` as `count` processes of one job, or `only` some, with `devices` simulated each."""
    coordinator = environment.pop("coordinator", f"127.0.0.1:{free_port()}")
    started = []
    for number in range(count) if only is None else only:
        env = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COORDINATOR_ADDRESS": coordinator,
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(number),
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
            **environment,
        }
        # What begins with a file is that script's command line, not sgtr's.
        command = [sys.executable, *(argv if argv[0].endswith(".py") else ["-m", "sgtr_jax.cli", *argv])]
        started.append(
            subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return started


def finish(started: Sequence[subprocess.Popen[str]], timeout: float = 240) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each, in order."""
    ended = []
    try:
        for process in started:
            out, err = process.communicate(timeout=timeout)
            # Gloo's threads write "[Gloo] Rank 0 is connected to 1 peer ranks ..." into one another's lines.
            said = [line for line in out.splitlines() if not line.startswith("[Gloo]") and "peer ranks" not in line]
            ended.append((process.returncode, "\n".join(said), err))
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
    return ended
