"""A stand-in for `gcloud` and for the workers of a slice, on this machine: `fake_cloud.install(folder, ...)`.

It keeps a slice's state, records every call, runs what is sent to a worker in a home of that worker's own, and has the
bad days that a plan names: no capacity, connections that drop, a worker that is lost, a preemption in the middle.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKERS = 2
_STUBS = {
    # What a worker has: `uv` makes the environment, whose sgtr counts to ten in the bucket, as a job that resumes does.
    "uv": """#!/bin/bash
mkdir -p venv/bin
printf '#!/bin/bash\\ncat >/dev/null; echo set up\\n' >venv/bin/python
cp "$FAKE_CLOUD/bin/job" venv/bin/sgtr
chmod +x venv/bin/*
""",
    "mountpoint": '#!/bin/bash\n[ -L "${@: -1}" ]\n',
    "gcsfuse": '#!/bin/bash\nrmdir "${@: -1}" && ln -s "$FAKE_CLOUD/bucket" "${@: -1}"\n',
    "job": """#!/bin/bash
echo "$$ $*" >>"$FAKE_CLOUD/started"
[ ! -f "$FAKE_CLOUD/exit_code" ] || exit "$(cat "$FAKE_CLOUD/exit_code")"
if [ -f "$FAKE_CLOUD/fails_first" ] && [ ! -f "$HOME/failed" ]; then touch "$HOME/failed"; exit 1; fi
out="${*: -1}"; out="${out#out=}"
[ "$(basename "$HOME")" = worker-0 ] || { while [ ! -f "$out/table" ]; do sleep 0.05; done; exit 0; }
before="$(tail -n 1 "$out/steps" 2>/dev/null || echo 0)"
for step in $(seq "$((before + 1))" 10); do sleep 0.15; echo "$step" >>"$out/steps"; done
echo whole >"$out/table"
""",
}


def install(folder: Path, **plan: Any) -> dict[str, str]:
    """Make the stand-in in `folder`; returns the environment to run the scripts in."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    (folder / "bucket").mkdir()
    for name, text in _STUBS.items():
        (binaries / name).write_text(text)
    (binaries / "gcloud").write_text(f'#!/bin/bash\nexec {sys.executable} {__file__} "$@"\n')
    for path in binaries.iterdir():
        path.chmod(0o755)
    (folder / "state.json").write_text(json.dumps({"slice": None, "plan": plan, "groups": [], "looks": 0}))
    return {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "FAKE_CLOUD": str(folder)}


def calls(folder: Path) -> list[str]:
    """What was asked of the cloud, in order."""
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


class _Cloud:
    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "state.json"
        self.state: dict[str, Any] = json.loads(self.path.read_text())
        self.plan = self.state["plan"]

    def take(self, key: str) -> bool:
        """Whether a bad day is left of this kind; one is used up."""
        left = self.plan.get(key, 0)
        self.plan[key] = max(0, left - 1)
        return bool(left > 0)

    def save(self) -> None:
        self.path.write_text(json.dumps(self.state))

    def stop_workers(self) -> None:
        for group in self.state["groups"]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self.state["groups"] = []
        for home in self.folder.glob("worker-*"):
            shutil.rmtree(home)

    def create(self, kind: str) -> int:
        if self.state["slice"] is not None:
            print("ERROR: already exists", file=sys.stderr)
            return 1
        if self.take("no_capacity"):
            print("ERROR: There is no more capacity in the zone", file=sys.stderr)
            return 1
        waits = self.plan.get("waits", 0)
        self.state["slice"] = {"kind": kind, "state": "ACTIVE" if kind == "tpu-vm" else "PROVISIONING", "waits": waits}
        for number in range(WORKERS):
            (self.folder / f"worker-{number}").mkdir()
        return 0

    def describe(self) -> int:
        if self.state["slice"] is None:
            return 1
        if self.state["slice"]["state"] == "PROVISIONING":
            self.state["slice"]["waits"] -= 1
            if self.state["slice"]["waits"] < 0:
                self.state["slice"]["state"] = "ACTIVE"
        steps = self.folder / "bucket" / "runs" / "sgtr" / "steps"
        if steps.exists() and len(steps.read_text().split()) >= 3 and self.take("preemptions"):
            self.stop_workers()
            self.state["slice"]["state"] = "SUSPENDED"
        print(self.state["slice"]["state"])
        return 0

    def delete(self) -> int:
        if self.take("stuck_deletions"):
            return 1
        self.stop_workers()
        self.state["slice"] = None
        return 0

    def ssh(self, words: list[str]) -> int:
        given = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
        if self.state["slice"] is None or self.state["slice"]["state"] != "ACTIVE":
            return 1
        if self.take("drops"):
            return 255
        if "status.sh" in given["command"] and self.take("lost"):
            print("worker 1: connection refused", file=sys.stderr)
            return 1
        numbers = range(WORKERS) if given["worker"] == "all" else [int(given["worker"])]
        code = 0
        for number in numbers:
            home = self.folder / f"worker-{number}"
            process = subprocess.Popen(
                ["bash", "-c", given["command"]],
                cwd=home,
                env={**os.environ, "HOME": str(home)},
                start_new_session=True,
            )
            self.state["groups"].append(process.pid)
            self.save()
            code = max(code, process.wait())
        return code

    def scp(self, words: list[str]) -> int:
        files = [Path(word) for word in words if word.startswith("/")]
        for number in range(WORKERS):
            for file in files:
                shutil.copy(file, self.folder / f"worker-{number}")
        return 0

    def rsync(self, words: list[str]) -> int:
        source, target = words[-2:]
        shutil.copytree(self.folder / "bucket" / "/".join(source.split("/")[3:]), target, dirs_exist_ok=True)
        return 0


def main(words: list[str]) -> int:
    """Answer one `gcloud` command."""
    folder = Path(os.environ["FAKE_CLOUD"])
    with (folder / "calls").open("a") as log:
        log.write(" ".join(words[:5]) + "\n")
    cloud = _Cloud(folder)
    actions = {
        "create": lambda: cloud.create(words[2]), "describe": cloud.describe, "delete": cloud.delete,
        "ssh": lambda: cloud.ssh(words), "scp": lambda: cloud.scp(words), "list": lambda: 0,
    }  # fmt: skip
    code = cloud.rsync(words) if words[0] == "storage" else actions[words[3]]()
    cloud.save()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
