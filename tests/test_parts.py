"""A run in parts: how it is cut, and four processes over one bucket, one of them killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
from etils import epath
from test_bucket import bucket as bucket  # the emulated one
from test_experiment import CONFIG
from tiny import make_model

from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import Graph, build_graph
from sgtr_jax.experiment.leases import Leases
from sgtr_jax.experiment.mirror import Mirror
from sgtr_jax.experiment.parts import assigned
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.training_node import TrainingNode
from sgtr_jax.experiment.work_share import PartOfRun

SETS = ["a", "b", "c", "d"]


def graph_of(first: Sequence[str], then: Sequence[str], seeds: int) -> Graph:
    data = {
        name: {"kind": "preferences", "popular": i % 2 == 0, "rows": 8 + i} for i, name in enumerate([*SETS, *then])
    }
    conditions: dict[str, Any] = {"base": []}
    for name in first:
        conditions[name] = [{"data": name}]
        conditions |= {f"{name}-{other}": [{"data": name}, {"data": other}] for other in then}
    config = {"name": "cut", "model": "nano", "seeds": seeds, "data": data, "conditions": conditions}
    evaluations = {"t": {"kind": "two_choice"}, "i": {"kind": "identity", "maker": "a"}}
    return build_graph(build_config(ExperimentConfig, {**config, "evaluations": evaluations}, "cut"))


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("first", "then", "seeds"), [(SETS, ["x", "y"], 2), (["a"], list("pqrstuvw"), 1), ([], [], 1)])
def test_every_artifact_is_in_one_part_and_parts_are_of_like_size(
    first: Sequence[str], then: Sequence[str], seeds: int, parts: int
) -> None:
    graph = graph_of(first, then, seeds)
    found = assigned([cell.node for cell in graph.cells], parts)
    assert found.keys() == {node.fingerprint for node in graph.nodes()}
    assert set(found.values()) <= set(range(1, parts + 1))
    trainings = Counter(found[node.fingerprint] for node in graph.nodes() if isinstance(node, TrainingNode))
    total = sum(trainings.values())
    # None has more than its share and the largest thing that cannot be cut: a set with what follows on it.
    assert max(trainings.values(), default=0) <= total / parts + 3


def test_what_shares_a_stage_is_in_one_part_where_parts_allow_it() -> None:
    graph = graph_of(SETS, ["x", "y"], 2)
    found = assigned([cell.node for cell in graph.cells], 4)
    for cell in graph.cells:
        chain = cell.node.chain
        assert len({found[one.fingerprint] for one in (*chain, cell.node)}) <= 1 or not chain


def test_the_parts_are_the_same_whatever_is_asked_first() -> None:
    graph = graph_of(SETS, ["x", "y"], 2)
    cells = [cell.node for cell in graph.cells]
    assert assigned(cells, 3) == assigned([cell.node for cell in graph_of(SETS, ["x", "y"], 2).cells], 3)


@pytest.mark.parametrize("part", ["0/4", "5/4", "2", "a/b", "1/0", "2/4/5"])
def test_a_part_that_there_is_not_is_refused(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "demo", "--part", part])
    assert end.value.code == 2 and "expected i/n with i from 1 to n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "demo", "--part", "1/2"], "this run has none: give mirror=gs://"),
        (["run", "demo", "--part", "1/2", "--smoke"], "--part and --smoke"),
        (["run", "demo", "model=openai/gpt-4.1", "mirror=gs://b/f", "--part", "1/2"], "--part: a model behind an API"),
    ],
)
def test_what_machines_cannot_share_is_refused(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(("task", "count"), [("1", "1"), ("3", "8")])
def test_a_task_of_a_slurm_array_is_a_part(task: str, count: str, tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "tpu" / "cluster" / "slurm.sh"
    (tmp_path / "sgtr").write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    (tmp_path / "sgtr").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": task}
    env["SLURM_ARRAY_TASK_COUNT"] = count
    words = [str(script), f"{tmp_path}/a b", "run", "c.yaml", "only=[a, b]"]
    ended = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [
        "run", "c.yaml", "only=[a, b]", f"mirror=file://{tmp_path}/a b", "--part", f"{task}/{count}"
    ]  # fmt: skip
    assert (tmp_path / "a b").is_dir()
    for wrong in (["run", "c.yaml"], ["scratch", "run", "c.yaml"], [str(tmp_path), "train", "c.yaml"]):
        refused = subprocess.run([str(script), *wrong], env=env, capture_output=True, text=True)
        assert refused.returncode == 2 and "expected an absolute folder" in refused.stderr


def test_what_the_last_machine_would_miss_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    words = ["run", "demo", f"mirror=file://{tmp_path}/shared", "judge=openai/gpt-4.1-2025-04-14", "--part", "1/2"]
    assert main(words) == 2 and "OPENAI_API_KEY is not set" in capsys.readouterr().err
    assert not list(tmp_path.glob("shared/store/*"))


def test_what_was_made_before_a_kill_is_sent_and_not_made_by_others(tmp_path: Path) -> None:
    graph, address = graph_of(["a"], [], 1), f"file://{tmp_path}/shared"
    node = next(node for node in graph.nodes() if node.kind == "records")
    store, mirror = Store(tmp_path / "one"), Mirror(address)
    with store.make(node) as folder:
        (folder / "records.jsonl").write_text("{}\n")
    with contextlib.closing(Leases(address, "one")) as leases:
        share = PartOfRun(set(), [], store, mirror, leases)
        assert mirror.keys() == set()
        share.send([node])
        assert mirror.keys() == {node.key}
        # Another machine that has not looked since takes the lease, sees it there, and leaves it.
        other = PartOfRun(set(), [], Store(tmp_path / "two"), Mirror(address), leases)
        assert other.is_made(node) and not other.claim([node])
    assert not list(tmp_path.glob("shared/leases/*"))


# As `sgtr`, with leases that end sooner than minutes.
SGTR = """
import sys
from sgtr_jax.experiment import leases, work_share
leases.LEASE_SECONDS, work_share.POLL_SECONDS = 20.0, 0.3
from sgtr_jax.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def started(folder: Path, words: Sequence[str]) -> subprocess.Popen[str]:
    folder.mkdir()
    with (folder / "said").open("w") as said:
        return subprocess.Popen([sys.executable, "-c", SGTR, *words], cwd=folder, stderr=said, stdout=said, text=True)


def made(folder: Path) -> list[str]:
    """What a process says that it made: kind and name."""
    lines = re.findall(r"^\[\d+/\d+\] (\w+) (.*): [\d.]+ s$", (folder / "said").read_text(), re.MULTILINE)
    return [f"{kind} {name}" for kind, names in lines for name in names.split(", ")]


def test_a_plan_says_what_each_part_makes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["seeds=2", "judge=openai/gpt-4.1-2025-04-14"]
    assert main(["plan", "demo", *words, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main(["plan", "demo", *words, "--parts", "3", "--json"]) == 0
    out = capsys.readouterr().out
    parts = json.loads(out.splitlines()[-1])["parts"]
    assert "3 parts: sgtr run CONFIG" in out and [part["accelerator_hours_at_least"] for part in parts] == [None] * 3
    for key, of_whole in (("runs", "runs"), ("steps", "steps"), ("artifacts", "nodes")):
        assert sum(part[key] for part in parts) == whole[of_whole]
    assert sum(part["judge_dollars"] for part in parts) == pytest.approx(whole["judge_dollars"], abs=0.02)
    for wrong in ("0", "x", "-1", "1.5"):
        with pytest.raises(SystemExit):
            main(["plan", "demo", f"--parts={wrong}"])
        assert "expected a number of machines" in capsys.readouterr().err


@pytest.mark.slow
def test_four_machines_make_what_one_makes_though_one_is_killed(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(tmp_path / "m")
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG.format(model=tmp_path / "m"))
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(file), f"out={tmp_path}/alone"]) == 0
    address = f"{bucket}/runs/shared"
    processes = [
        started(tmp_path / f"machine{i}", ["run", str(file), f"mirror={address}", "--part", f"{i}/4"])
        for i in range(1, 5)
    ]
    victim = holder_of_an_adapter(address)
    processes[victim - 1].send_signal(signal.SIGKILL)
    codes = [process.wait(timeout=600) for process in processes]
    said = [(tmp_path / f"machine{i}/said").read_text() for i in range(1, 5)]
    assert sorted(codes) == [-9, 0, 0, 0], "\n".join(one[-3000:] for one in said)
    assert (epath.Path(address) / "results.csv").read_text() == (tmp_path / "alone/results.csv").read_text()
    assert (epath.Path(address) / "report.html").exists()
    wanted = build_graph(config_of(file)).nodes()
    store = [path.name for path in (epath.Path(address) / "store").iterdir()]
    assert sorted(store) == sorted(node.folder for node in wanted)
    # Each by one machine. What was sent when its machine was killed, nobody may say that he made.
    by = Counter(name for i in range(1, 5) for name in made(tmp_path / f"machine{i}"))
    assert set(by.values()) == {1} and len(wanted) - 1 <= len(by) <= len(wanted), by
    assert sum("no sign of life" in one for one in said) >= 1
    assert sum("report.html" in one for one in said) == 1
    # Who starts again finds nothing to do.
    again = started(tmp_path / "again", ["run", str(file), f"mirror={address}", "--part", "1/4"])
    assert again.wait(timeout=120) == 0 and not made(tmp_path / "again")
    assert "nothing is left; part" in (tmp_path / "again/said").read_text()


def config_of(file: Path) -> ExperimentConfig:
    from sgtr_jax.config import load_config

    return load_config(ExperimentConfig, file)


def holder_of_an_adapter(address: str) -> int:
    """The part that trains something just now."""
    files, root = fsspec.core.url_to_fs(f"{address}/leases")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        files.invalidate_cache()
        for path in files.ls(root, detail=False) if files.exists(root) else []:
            if re.search(r"/adapter-\w+\.0$", path):
                found = re.search(rb"part (\d)/4", files.cat_file(path))
                if found:
                    return int(found[1])
        time.sleep(0.05)
    raise AssertionError("nothing was ever trained")
