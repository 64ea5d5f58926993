"""SkyPilot itself reads its job file: `make skypilot`, which installs it in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skypilot
ROOT = Path(__file__).parent.parent
FILE = ROOT / "tpu" / "cluster" / "skypilot.yaml"
PARTS = ROOT / "tpu" / "cluster" / "skypilot-parts.yaml"

# Reads a job file as `sky jobs launch FILE --env BUCKET=b --secret ...` does, and says what SkyPilot made of it.
READER = """
import json, sys
import sky
from sky.utils import yaml_utils

config = yaml_utils.read_yaml(sys.argv[1])
secrets = [("OPENAI_API_KEY", "k"), ("HF_TOKEN", "t")]
task = sky.Task.from_yaml_config(config, dict(variable.split("=") for variable in sys.argv[2:]), dict(secrets))
(resources,) = task.resources
print(json.dumps({
    "slice": [str(resources.cloud), resources.accelerators, resources.accelerator_args, resources.use_spot],
    "recovery": resources.job_recovery,
    "bucket": [[path, store.source, store.mode.value] for path, store in task.storage_mounts.items()],
    "unset": sorted(name for name, value in {**task.envs, **task.secrets}.items() if not value),
}))
"""


def read(file: Path, home: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".venv" / "skypilot" / "bin" / "python", "-c", READER, file, *variables],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "HOME": str(home)},
    )


def test_it_is_a_spot_job_on_a_slice_with_the_users_own_bucket(tmp_path: Path) -> None:
    ended = read(FILE, tmp_path, "BUCKET=b")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == {
        "slice": ["GCP", {"tpu-v5litepod-16": 1}, {"runtime_version": "v2-alpha-tpuv5-lite"}, True],
        "recovery": {"strategy": None, "max_restarts_on_errors": 1},
        "bucket": [],  # our own script mounts it
        "unset": [],
    }


def test_a_part_is_a_spot_job_on_a_slice_of_one_host(tmp_path: Path) -> None:
    ended = read(PARTS, tmp_path, "BUCKET=b", "PART=2/4")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["slice"] == ["GCP", {"tpu-v5litepod-8": 1}, {"runtime_version": "v2-alpha-tpuv5-lite"}, True]
    assert not found["unset"] and "PART" in read(PARTS, tmp_path, "BUCKET=b").stderr


@pytest.mark.parametrize(
    ("written", "instead", "variables", "complaint"),
    [
        ("use_spot: true", "use_spto: true", ["BUCKET=b"], "use_spto"),
        ("workdir: .", "workdri: .", ["BUCKET=b"], "workdri"),
        ("\nrun: |", "\nrunn: |", ["BUCKET=b"], "runn"),
        ("name: sgtr", "name: sgtr", [], "BUCKET"),
    ],
)
def test_what_it_does_not_know_it_refuses(
    tmp_path: Path, written: str, instead: str, variables: list[str], complaint: str
) -> None:
    changed = tmp_path / "job.yaml"
    changed.write_text(FILE.read_text().replace(written, instead))
    ended = read(changed, tmp_path, *variables)
    assert ended.returncode != 0 and complaint in ended.stderr
