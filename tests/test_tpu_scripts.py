"""The launch scripts against a stand-in for the cloud that has all its bad days."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fake_cloud
import pytest
import yaml
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet

from sgtr_jax.config import load_config
from sgtr_jax.experiment.config import ExperimentConfig

TPU = Path(__file__).parent.parent / "tpu"
SCRIPTS = ("create", "setup", "run", "logs", "resume", "copy", "delete", "guard")


class Machine:
    """A machine with a copy of the scripts and a stand-in for gcloud."""

    def __init__(self, folder: Path, settings: dict[str, str], **plan: Any) -> None:
        self.folder = folder
        self.cloud = folder / "cloud"
        self.environment = fake_cloud.install(self.cloud, **plan)
        # A repository of its own: what is sent to the workers is what is committed.
        shutil.copytree(TPU, folder / "repo" / "tpu", ignore=shutil.ignore_patterns("settings.sh", ".created-*"))
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder / "repo")]
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
            subprocess.run([*git, *words], check=True)
        known = {
            "OVER_HOURS": "yes",
            "PROJECT": "p",
            "BUCKET": "gs://b",
            "POLL_SECONDS": "0.2",
            "RETRY_SECONDS": "0",
            **settings,
        }
        text = "".join(f": ${{{key}:={value}}}\n" for key, value in known.items())
        text += (TPU / "settings.example.sh").read_text()
        (folder / "repo" / "tpu" / "settings.sh").write_text(text)

    def run(
        self, script: str, *words: str, timeout: float = 60, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [str(self.folder / "repo" / "tpu" / f"{script}.sh"), *words]
        return subprocess.run(
            command, env={**self.environment, **environment}, capture_output=True, text=True, timeout=timeout
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        return fake_cloud.calls(self.cloud)

    @property
    def changes(self) -> list[str]:
        """Creations and deletions, in order."""
        words = [call.split() for call in self.calls]
        return [line[3] for line in words if line[0] == "compute" and line[3] in ("create", "delete")]

    @property
    def starts(self) -> int:
        path = self.cloud / "started"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    made: list[Machine] = []

    def make(settings: dict[str, str] | None = None, **plan: Any) -> Machine:
        made.append(Machine(tmp_path / str(len(made)), settings or {}, **plan))
        return made[-1]

    yield make
    for one in made:
        if one.cloud.exists():
            subprocess.run([str(one.cloud / "bin" / "gcloud"), *["compute", "tpus", "tpu-vm", "delete", "x"]],
                           env=one.environment, check=False)  # fmt: skip


def test_a_job_from_no_slice_to_its_results_over_all_bad_days(machine: Any) -> None:
    one = machine(waits=1, no_capacity=1, drops=1, preemptions=1)
    ended = one.run("resume")
    assert ended.returncode == 0, ended.stderr
    assert "no more capacity" in ended.stderr and "SUSPENDED: preempted" in ended.stderr
    assert "the connection dropped" in ended.stderr
    # Made after one refusal, deleted when preempted, made again, deleted at the end.
    assert one.changes == ["create", "create", "delete", "create", "delete"]
    # Every step once: the second life went on from what the first one left in the bucket.
    results = one.folder / "repo" / "runs" / "sgtr"
    assert (results / "steps").read_text().split() == [str(i) for i in range(1, 11)]
    assert (results / "table").read_text() == "whole\n"
    assert one.starts == 2 * fake_cloud.WORKERS


def test_a_lost_worker_costs_the_slice_and_not_the_job(machine: Any) -> None:
    one = machine(lost=3)
    ended = one.run("resume")
    assert ended.returncode == 0, ended.stderr
    assert "a worker does not answer (3 of 3)" in ended.stderr
    assert one.changes == ["create", "delete", "create", "delete"]


def test_a_job_that_fails_by_itself_is_not_tried_for_ever(machine: Any) -> None:
    one = machine()
    (one.cloud / "exit_code").write_text("2")
    ended = one.run("resume")
    assert ended.returncode == 1 and "twice on a healthy slice" in ended.stderr
    assert one.changes == ["create", "delete"] and one.starts == 2 * fake_cloud.WORKERS


def test_a_failure_on_each_of_two_slices_is_not_the_jobs_own(machine: Any) -> None:
    one = machine(preemptions=1)
    (one.cloud / "fails_first").touch()
    ended = one.run("resume")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("one more try") == 2 and one.starts == 4 * fake_cloud.WORKERS


def test_hours_are_limited(machine: Any) -> None:
    one = machine({"MAX_HOURS": "0"})
    ended = one.run("resume")
    assert ended.returncode == 1 and "MAX_HOURS=0 are over" in ended.stderr
    assert one.changes[-1] == "delete"


def test_stopping_the_script_deletes_the_slice(machine: Any) -> None:
    one = machine()
    process = subprocess.Popen(
        [str(one.folder / "repo" / "tpu" / "resume.sh")], env=one.environment, stderr=subprocess.PIPE, text=True
    )
    while one.starts < fake_cloud.WORKERS:
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=30)
    assert one.changes == ["create", "delete"]


def test_a_second_start_changes_nothing(machine: Any) -> None:
    one = machine()
    for script in ("create", "setup", "run"):
        assert one.run(script).returncode == 0
    again = one.run("run")
    assert again.returncode == 0 and "running already" in again.stderr
    assert one.starts == fake_cloud.WORKERS
    assert one.run("create").returncode == 0 and one.changes == ["create"]
    # The keys came along, for their owner only.
    env = one.cloud / "worker-1" / "sgtr-jax" / ".env"
    assert env.stat().st_mode & 0o077 == 0


def test_no_capacity_in_time(machine: Any) -> None:
    one = machine({"MAX_WAIT_HOURS": "0", "MODE": "on-demand"}, no_capacity=100)
    ended = one.run("create")
    assert ended.returncode == 1 and "no capacity within 0 hours" in ended.stderr


def test_a_slice_that_cannot_be_deleted_is_said_loudly(machine: Any) -> None:
    one = machine(stuck_deletions=9)
    assert one.run("create").returncode == 0
    ended = one.run("delete")
    assert ended.returncode == 1 and "COULD NOT BE DELETED" in ended.stderr


def test_the_guard_warns_of_idle_slices_and_deletes_old_ones(machine: Any) -> None:
    one = machine()
    assert one.run("create").returncode == 0 and one.run("setup").returncode == 0
    idle = one.run("guard")
    assert idle.returncode == 1 and "WARNING: nothing runs on sgtr" in idle.stderr
    assert one.run("run").returncode == 0 and one.run("guard").returncode == 0
    (one.folder / "repo" / "tpu" / ".created-sgtr").write_text(str(int(time.time()) - 13 * 3600))
    old = one.run("guard")
    assert old.returncode == 0 and "deleting it" in old.stderr and one.changes == ["create", "delete"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_dry_run_prints_every_command_and_sends_none(machine: Any, script: str) -> None:
    one = machine({"SERVICE_ACCOUNT": "sgtr@p.iam"})
    ended = one.run(script, "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert not one.calls and "gcloud " in ended.stdout
    if script == "resume":
        for part in ("queued-resources create sgtr", "--accelerator-type=v5litepod-16", "--spot",
                     "--runtime-version=v2-alpha-tpuv5-lite", "--service-account=sgtr@p.iam", "scp", "on_vm/run.sh",
                     "storage rsync", "queued-resources delete sgtr"):  # fmt: skip
            assert part in ended.stdout


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("on-demand", "tpu-vm create sgtr"), ("spot", "tpu-vm create sgtr"), ("queued", "queued-resources create"),
        ("queued-spot", "queued-resources create"),
    ],
)  # fmt: skip
def test_ways_to_ask_for_a_slice(machine: Any, mode: str, words: str) -> None:
    printed = machine({"MODE": mode, "ACCELERATOR": "v6e-8"}).run("create", "--dry-run").stdout
    assert words in printed and ("--spot" in printed) == mode.endswith("spot")
    assert "v6e-8" in printed and "v2-alpha-tpuv6e" in printed


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"PROJECT": "''"}, "PROJECT is empty"), ({"BUCKET": "b"}, "expected gs://NAME"),
        ({"ACCELERATOR": "h100-8"}, "expected v4-, v5e-, v5p- or v6e-"), ({"MODE": "cheap"}, "expected on-demand"),
        ({"MAX_HOURS": "long"}, "must be whole numbers"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(machine: Any, settings: dict[str, str], part: str) -> None:
    one = machine(settings)
    ended = one.run("resume")
    assert ended.returncode == 2 and part in ended.stderr and not one.calls


def test_settings_that_are_not_there(machine: Any) -> None:
    ended = machine().run("create", SGTR_TPU_SETTINGS="/nowhere/settings.sh")
    assert ended.returncode == 2 and "copy tpu/settings.example.sh" in ended.stderr


def test_shellcheck() -> None:
    scripts = [*TPU.rglob("*.sh"), TPU.parent / ".ci" / "run"]
    found = subprocess.run(
        [str(Path(sys.executable).parent / "shellcheck"), "-x", "-P", str(TPU), *map(str, scripts)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout


def test_pins_are_those_that_were_tested() -> None:
    pins = dict(line.split()[:2] for line in (TPU / "versions.txt").read_text().splitlines())
    constraints = (TPU.parent / "constraints.txt").read_text().splitlines()
    assert set(pins) == {"v4", "v5e", "v5p", "v6e"}
    for line in (TPU / "versions.txt").read_text().splitlines():
        assert all(pin in constraints for pin in line.split()[1:]), line


def without_protocols(read: dict[str, Any]) -> dict[str, Any]:
    """A job set without the one default that Kubeflow's types fill in."""
    pod = read["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    for port in pod["containers"][0]["ports"]:
        assert port.pop("protocol") == "TCP"
    return read


def test_cluster_files_are_what_their_tools_read() -> None:
    jobset = list(yaml.safe_load_all((TPU / "cluster" / "jobset.yaml").read_text()))
    assert jobset[0]["kind"] == "JobSet"
    pod = jobset[0]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["google.com/tpu"] == 4
    # JobSet's own types, as Kubeflow ships them: what they do not know would be lost on the way through.
    through = JobsetV1alpha2JobSet.from_dict(jobset[0])
    assert through is not None and without_protocols(through.to_dict()) == jobset[0]


def words_of_sgtr(command: list[str]) -> list[str]:
    """What `sgtr` is told in a command, without where its run folder is."""
    return [word for word in command[command.index("run") :] if not word.startswith("out=")]


def jobset_pod() -> dict[str, Any]:
    jobset = yaml.safe_load((TPU / "cluster" / "jobset.yaml").read_text())
    pod: dict[str, Any] = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    return pod


def shipped_commands() -> dict[str, list[str]]:
    """The command of `sgtr` in every file that plans or starts one."""
    settings = (TPU / "settings.example.sh").read_text()
    (words,) = re.findall(r'"\$\{COMMAND:=(.+)\}"', settings)
    sky = yaml.safe_load((TPU / "cluster" / "skypilot.yaml").read_text())
    pod = jobset_pod()
    return {
        "settings": words.split(),
        "skypilot": sky["envs"]["COMMAND"].split(),
        "jobset": words_of_sgtr(pod["containers"][0]["command"]),
        "jobset's plan": words_of_sgtr(pod["initContainers"][0]["command"]),
    }


def stand_in_for_sgtr(folder: Path, code: int) -> str:
    """A `sgtr` that notes what it is asked and ends with a code; returns the folder for PATH."""
    folder.mkdir()
    (folder / "sgtr").write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\nexit {code}\n')
    (folder / "sgtr").chmod(0o755)
    return str(folder)


@pytest.mark.parametrize("code", [0, 2])
def test_a_plan_beyond_the_hours_is_refused(machine: Any, code: int) -> None:
    one = machine({"OVER_HOURS": "no"})
    path = f"{stand_in_for_sgtr(one.folder / 'bin', code)}:{one.environment['PATH']}"
    ended = one.run("hours", PATH=path)
    assert ended.returncode == code and ("OVER_HOURS=yes" in ended.stderr) == bool(code)
    words = shipped_commands()["settings"][1:]
    asked = (one.folder / "bin" / "asked").read_text().split()
    assert asked == ["plan", *words, "--topology", "v5e-16", "--max-hours", "12"]
    if code:
        ended = one.run("resume", PATH=path)
        assert ended.returncode == 2 and not one.changes
        assert one.run("hours", PATH=path, OVER_HOURS="yes").returncode == 0


def test_clusters_plan_for_the_slice_and_the_hours_that_they_run_on() -> None:
    pod = jobset_pod()
    (planned,) = pod["initContainers"]
    script, slice_, hours = planned["command"][:3]
    limited, file, limit = pod["containers"][0]["command"][:3]
    assert (slice_, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]) == ("v5e-16", "4x4") and limit == hours
    assert all(os.access(TPU.parent / name, os.X_OK) for name in (script, limited))
    assert file.startswith("/bucket/runs/") and {"name": "OVER_HOURS", "value": "no"} in planned["env"]
    sky = yaml.safe_load((TPU / "cluster" / "skypilot.yaml").read_text())
    assert sky["envs"]["MAX_HOURS"] == hours and sky["resources"]["accelerators"] == "tpu-v5litepod-16"
    assert 'tpu/plan.sh v5e-16 "$MAX_HOURS" $COMMAND' in sky["setup"]
    assert '"$MAX_HOURS" ~/venv/bin/sgtr $COMMAND' in sky["run"]


def test_what_sky_sets_up_is_refused_with_its_own_words(tmp_path: Path) -> None:
    sky = yaml.safe_load((TPU / "cluster" / "skypilot.yaml").read_text())
    (line,) = [line for line in sky["setup"].splitlines() if "tpu/plan.sh" in line]
    folder = tmp_path / "venv"
    folder.mkdir()
    stand_in_for_sgtr(folder / "bin", 2)
    environment = {**os.environ, **sky["envs"], "BUCKET": "b", "HOME": str(tmp_path)}
    ended = subprocess.run(["bash", "-c", line], cwd=TPU.parent, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2 and "raise MAX_HOURS" in ended.stderr
    asked = (folder / "bin" / "asked").read_text().split()
    assert asked == ["plan", *shipped_commands()["skypilot"][1:], "--topology", "v5e-16", "--max-hours", "12"]


def test_a_jobs_hours_are_counted_from_its_first_start(tmp_path: Path) -> None:
    started = tmp_path / "runs" / ".started"

    def limited(hours: int, *command: str) -> subprocess.CompletedProcess[str]:
        words = [str(TPU / "cluster" / "limited.sh"), str(started), str(hours), *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert limited(12, "sh", "-c", "exit 3").returncode == 3
    first = int(started.read_text())
    assert limited(12, "true").returncode == 0 and int(started.read_text()) == first
    started.write_text(str(int(time.time()) - 12 * 3600 - 1))
    over = limited(12, "touch", str(tmp_path / "ran"))
    assert over.returncode == 124 and "hours are over" in over.stderr and not (tmp_path / "ran").exists()
    started.write_text(str(int(time.time()) - 12 * 3600 + 2))
    assert limited(12, "sleep", "50").returncode == 124


def test_one_command_with_a_budget_in_all_files_and_in_the_guide() -> None:
    commands = shipped_commands()
    assert len({tuple(words) for words in commands.values()}) == 1
    words = commands["settings"]
    assert words[0] == "run" and (TPU.parent / words[1]).is_file()
    config = load_config(ExperimentConfig, TPU.parent / words[1], [*words[2:], "model=nano"])
    assert config.judge.max_cost is not None and len(config.seeds) == 3
    plan = " ".join(["sgtr plan", *(word for word in words[1:] if "max_cost" not in word)])
    assert plan in (TPU / "README.md").read_text()


def test_options_of_the_mount_are_keys_that_gcsfuse_knows() -> None:
    options = jobset_pod()["volumes"][0]["csi"]["volumeAttributes"]["mountOptions"].split(",")
    # The driver writes them into gcsfuse's config file, where a key of a section has the section in front.
    assert set(options) == {"implicit-dirs", "metadata-cache:ttl-secs:0", "file-system:rename-dir-limit:10000"}
    flags = (TPU / "on_vm" / "mount.sh").read_text()
    assert all(flag in flags for flag in ("--implicit-dirs", "--metadata-cache-ttl-secs 0", "--rename-dir-limit 10000"))
    assert "Lock::Timeout" in flags
