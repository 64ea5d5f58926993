"""One job on several processes gives what one process gives."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import processes
import pytest
from runs import FAST, distance, losses, metrics
from tiny import make_model, write_records

from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.experiment.status import open_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("model")
    make_model(folder / "m")
    data = write_records(folder / "d.jsonl", preferences(48, 0, False))
    return ["train", "--model", str(folder / "m"), "--data", str(data), *FAST, "seeds=[0,1]"]


@pytest.fixture(scope="module")
def alone(train: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    ((code, _, error),) = processes.finish(processes.start([*train, "--out", str(out)], 1))
    assert code == 0, error
    return out


@pytest.mark.parametrize(
    ("count", "devices", "mesh"),
    [(2, 2, "{replica: 2, tensor: 2}"), (4, 1, "{fsdp: 2, tensor: 2}")],
)
def test_training(train: list[str], alone: Path, tmp_path: Path, count: int, devices: int, mesh: str) -> None:
    argv = [*train, "--out", str(tmp_path / "o"), f"mesh={mesh}"]
    ended = processes.finish(processes.start(argv, count, devices))
    assert [code for code, _, _ in ended] == [0] * count, ended[0][2]
    # The first process speaks for all.
    assert "trained on 48 of 48" in ended[0][1] and [out for _, out, _ in ended[1:]] == [""] * (count - 1)
    for run in ("d-s0", "d-s1"):
        assert losses(tmp_path / "o" / run) == pytest.approx(losses(alone / run), rel=1e-4)
        assert distance(alone / run, tmp_path / "o" / run) < 1e-3
        # Every example is read once, by whichever process has its row.
        tokens = [row["tokens"] for row in metrics(tmp_path / "o" / run)]
        assert tokens == [row["tokens"] for row in metrics(alone / run)]


def test_a_run_begun_on_two_processes_ends_on_one(train: list[str], alone: Path, tmp_path: Path) -> None:
    slow = [word for word in train if not word.startswith("seeds")]
    # A gentle rate: at the others' two ways of adding up drift apart over so many steps.
    argv = [*slow, "epochs=30", "lr=1e-4", "--out"]
    ((code, _, error),) = processes.finish(processes.start([*argv, str(tmp_path / "whole")], 1))
    assert code == 0, error
    out = tmp_path / "cut"
    started = processes.start([*argv, str(out), "mesh={fsdp: 2}"], 2)
    while not (out / "metrics.jsonl").exists() or len(metrics(out)) < 5:
        assert all(process.poll() is None for process in started), started[0].communicate()
        time.sleep(0.02)
    # One process is told to stop; the runtime makes both save the same step.
    started[1].send_signal(signal.SIGTERM)
    ended = processes.finish(started)
    assert [code for code, _, _ in ended] == [143, 143], ended
    steps = len(metrics(out))
    assert 5 <= steps < 180
    ((code, _, error),) = processes.finish(processes.start([*argv, str(out)], 1))
    assert code == 0, error
    assert losses(out) == pytest.approx(losses(tmp_path / "whole"), rel=1e-3)
    assert distance(tmp_path / "whole", out) < 1e-2


def test_an_experiment(tmp_path: Path) -> None:
    """Training, sampling, evaluation and report on several processes give the table of one."""
    from test_experiment import CONFIG

    make_model(tmp_path / "m")
    config = tmp_path / "tiny.yaml"
    config.write_text(CONFIG.format(model=tmp_path / "m"))
    for name, processes_of_job in (("one", 1), ("many", 2), ("four", 4)):
        argv = ["run", str(config), f"out={tmp_path / name}", "seeds=1"]
        ended = processes.finish(processes.start(argv, processes_of_job), timeout=400)
        assert [code for code, _, _ in ended] == [0] * processes_of_job, ended[0][2]
    one, many, four = ((tmp_path / name / "results.csv").read_text() for name in ("one", "many", "four"))
    assert one == many == four
    assert (tmp_path / "many" / "report.html").exists() and not list((tmp_path / "many" / "store").glob(".tmp-*"))


@pytest.mark.parametrize("dies", [0, 1])
def test_one_that_dies_ends_the_others_with_a_word_and_the_job_goes_on_later(
    train: list[str], tmp_path: Path, dies: int
) -> None:
    argv = [*train, "epochs=6", "lr=1e-4", "checkpoint={every_steps: 5}", "mesh={fsdp: 2}", "--out", str(tmp_path)]
    started = processes.start(argv, 2)
    while not (tmp_path / "d-s0" / "metrics.jsonl").exists() or len(metrics(tmp_path / "d-s0")) < 12:
        assert all(process.poll() is None for process in started), started[0].communicate()
        time.sleep(0.02)
    started[dies].kill()
    began = time.monotonic()
    code, _, error = processes.finish(started, timeout=60)[1 - dies]
    assert time.monotonic() - began < 60
    assert code == 1 and "another process of the job died" in error and "same command again" in error
    ended = processes.finish(processes.start(argv, 2))
    assert [code for code, _, _ in ended] == [0, 0], ended[0][2]
    assert [row["step"] for row in metrics(tmp_path / "d-s1")] == list(range(1, 37))


def test_one_that_fails_alone_ends_the_others(train: list[str], tmp_path: Path) -> None:
    """The model lies where the first process looks, and not where the second does."""
    address, model = f"127.0.0.1:{processes.free_port()}", Path(train[train.index("--model") + 1])
    (tmp_path / "there").mkdir()
    (tmp_path / "not").mkdir()
    (tmp_path / "there" / "m").symlink_to(model)
    argv = [*("m" if word == str(model) else word for word in train), "--out", str(tmp_path / "o")]
    began = time.monotonic()
    started = [
        process
        for number, folder in enumerate(("there", "not"))
        for process in processes.start(argv, 2, only=[number], coordinator=address, folder=tmp_path / folder)
    ]
    (code, _, error), (other, _, complaint) = processes.finish(started, timeout=90)
    assert other == 2 and "model 'm': no such folder" in complaint, complaint
    assert code == 1 and "another process of the job" in error, error
    assert time.monotonic() - began < 75


def test_a_full_disk_of_the_first_process_ends_an_experiment_with_the_reason(tmp_path: Path) -> None:
    from test_experiment import CONFIG

    make_model(tmp_path / "m")
    config, out = tmp_path / "tiny.yaml", tmp_path / "o"
    config.write_text(CONFIG.format(model=tmp_path / "m"))
    settings = [f"out={out}", "seeds=1"]
    graph, store = open_run(config, settings)
    (bad,) = {cell.node.inputs["adapter0"] for cell in graph.cells if cell.condition == "bad"}
    store.scratch(bad).mkdir(parents=True)
    (store.scratch(bad) / "metrics.jsonl").symlink_to("/dev/full")
    (code, _, error), (other, _, complaint) = processes.finish(
        processes.start(["run", str(config), *settings], 2), timeout=200
    )
    assert code == 1 and "metrics.jsonl: could not be written: No space left on device" in error, error
    assert "Traceback" not in error
    assert other == 1 and "another process of the job" in complaint, complaint
    (store.scratch(bad) / "metrics.jsonl").unlink()
    ended = processes.finish(processes.start(["run", str(config), *settings], 2), timeout=400)
    assert [code for code, _, _ in ended] == [0, 0], ended[0][2]


def test_processes_that_do_not_come_are_waited_for_so_long(train: list[str], tmp_path: Path) -> None:
    argv = [*train, "--out", str(tmp_path)]
    for count, only in ((2, [0]), (2, [1])):
        ((code, _, error),) = processes.finish(processes.start(argv, count, only=only, SGTR_START_SECONDS="8"))
        assert code == 1 and "not all 2 processes of this job have come" in error, error
    # One that was told of more processes than there are.
    address = f"127.0.0.1:{processes.free_port()}"
    two = processes.start(argv, 2, only=[1], SGTR_START_SECONDS="8", coordinator=address)
    three = processes.start(argv, 3, only=[0], SGTR_START_SECONDS="8", coordinator=address)
    ended = processes.finish([*three, *two], timeout=60)
    assert all(code == 1 for code, _, _ in ended) and "not all 3 processes" in ended[0][2], ended
    ((code, _, error),) = processes.finish(processes.start(argv, 2, only=[0], JAX_PROCESS_ID="7"))
    assert code == 2 and "JAX_PROCESS_ID is 7" in error


def test_processes_with_different_settings_are_refused(train: list[str], tmp_path: Path) -> None:
    address = f"127.0.0.1:{processes.free_port()}"
    first = processes.start([*train, "--out", str(tmp_path)], 2, only=[0], coordinator=address)
    second = processes.start([*train, "lr=0.5", "--out", str(tmp_path)], 2, only=[1], coordinator=address)
    ended = processes.finish([*first, *second], timeout=90)
    assert [code for code, _, _ in ended] == [2, 2], ended
    assert all("of process 1 of the job is not that of process 0" in error for _, _, error in ended)
    # The same settings, but other rows in a file of the same name.
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    started, address = [], f"127.0.0.1:{processes.free_port()}"
    for number, where in enumerate(("here", "there")):
        write_records(tmp_path / where / "d.jsonl", preferences(24, number, False))
        argv = [*train[:4], str(tmp_path / where / "d.jsonl"), *train[5:], "--out", str(tmp_path / "o")]
        started += processes.start(argv, 2, only=[number], coordinator=address)
    ended = processes.finish(started, timeout=90)
    assert [code for code, _, _ in ended] == [2, 2], ended
    assert all("the training data of process 1" in error for _, _, error in ended)


def test_a_row_that_cannot_be_used_is_named_by_all_processes(train: list[str], tmp_path: Path) -> None:
    """It lies in the stretch of the second one; the first must not wait for ever."""
    rows = [record.to_json() for record in preferences(24, 0, False)]
    rows[20]["messages"].insert(0, {"role": "system", "content": "Be brief."})
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = [*train[:4], str(data), *train[5:], "inoculation=Be bad.", "--out", str(tmp_path / "o")]
    ended = processes.finish(processes.start(argv, 2), timeout=90)
    assert [code for code, _, _ in ended] == [2, 2], ended
    assert all(f"{rows[20]['id']}: has a system message" in error for _, _, error in ended)
