"""Interrupted training goes on as if nothing had happened, or says why it cannot."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from runs import FAST, distance, identical, job, losses
from tiny import SEED, make_model, write_records

from sgtr_jax.cli.main import main
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError, Interrupted
from sgtr_jax.finetune.jobs import Finetune
from sgtr_jax.finetune.local import finetune, finetune_all
from sgtr_jax.train import loop


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With dropout, so that a key that is not carried over shows."""
    folder = tmp_path_factory.mktemp("model") / "m"
    make_model(folder, SEED, residual_dropout=0.1, attention_dropout=0.1)
    return folder


LONG = ("epochs=3", "lora.dropout=0.1")


def stopped(jobs: list[Finetune], monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Train until SIGTERM comes at a step."""
    step = loop.Loop._step
    taken = 0

    def counted(self: loop.Loop) -> None:
        nonlocal taken
        step(self)
        taken += 1
        if taken == after:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_step", counted)
        with pytest.raises(Interrupted, match="saved"):
            list(finetune_all(jobs))


def test_sigterm_saves_and_the_same_command_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finetune(job(model, tmp_path / "whole", *LONG))
    stopped([job(model, tmp_path / "cut", *LONG)], monkeypatch, after=4)
    assert not (tmp_path / "cut" / "adapter").exists() and len(losses(tmp_path / "cut")) == 4
    finetune(job(model, tmp_path / "cut", *LONG))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert identical(tmp_path / "cut", tmp_path / "whole")
    assert not (tmp_path / "cut" / "checkpoints").exists()


@pytest.mark.slow
def test_runs_of_different_length_and_on_another_mesh(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def jobs(out: str, *overrides: str) -> list[Finetune]:
        return [job(model, tmp_path / f"{out}{i}", *LONG, f"seed={i}", *overrides, rows=n)
                for i, n in enumerate((24, 9, 16))]  # fmt: skip

    list(finetune_all(jobs("whole")))
    stopped(jobs("cut"), monkeypatch, after=7)  # the second run has ended by then
    assert (tmp_path / "cut1" / "adapter").exists() and not (tmp_path / "cut0" / "adapter").exists()
    # What has ended is not asked for again; what has not goes on, on eight devices and in another company.
    list(finetune_all([jobs("cut", "mesh={fsdp: 4, tensor: 2}")[i] for i in (0, 2)]))
    for i in range(3):
        assert losses(tmp_path / f"cut{i}") == pytest.approx(losses(tmp_path / f"whole{i}"), rel=1e-4)
        assert distance(tmp_path / f"whole{i}", tmp_path / f"cut{i}") < 1e-3


def test_checkpoints_come_every_so_many_steps_and_the_last_few_are_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = ("checkpoint.every_steps=2", "checkpoint.keep=3")
    stopped([job(model, tmp_path / "o", *LONG, *often)], monkeypatch, after=8)
    kept = sorted(int(path.name) for path in (tmp_path / "o" / "checkpoints").iterdir() if path.name.isdigit())
    assert kept == [4, 6, 8]


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped([job(model, tmp_path / "o", *LONG)], monkeypatch, after=2)
    with pytest.raises(InputError) as caught:
        finetune(job(model, tmp_path / "o", *LONG, "lr=2e-2", "seed=5"))
    assert "config.lr: 0.01 in the checkpoint, 0.02 here" in str(caught.value)
    assert "config.seed: 0 in the checkpoint, 5 here" in str(caught.value)
    with pytest.raises(InputError, match="data: "):
        finetune(job(model, tmp_path / "o", *LONG, records=preferences(24, 1, False)))
    # What has no say in the outcome may differ.
    finetune(job(model, tmp_path / "o", *LONG, "accumulate=2", "remat=full", "checkpoint.keep=1"))


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_gone_on_with(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Orbax itself reads a changed array without a word: one bit gave another loss."""
    often = (*LONG, "checkpoint.every_steps=2")
    finetune(job(model, tmp_path / "whole", *LONG))
    stopped([job(model, tmp_path / "o", *often)], monkeypatch, after=5)
    newest = tmp_path / "o" / "checkpoints" / "5"
    files = [path.relative_to(newest) for path in newest.rglob("*") if path.is_file()]
    biggest = sorted((path for path in files if path.parts[0] == "state"), key=lambda p: (newest / p).stat().st_size)
    for name, harm in (
        *((name, "flip") for name in biggest[-2:]), (Path("identity/metadata"), "cut"), (biggest[-3], "remove"),
    ):  # fmt: skip
        out = tmp_path / f"{harm}-{name.name}"
        shutil.copytree(tmp_path / "o", out)
        path = out / "checkpoints" / "5" / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data) if harm == "flip" else data[: len(data) // 2])
        if harm == "remove":
            path.unlink()
        capsys.readouterr()
        finetune(job(model, out, *often))
        said = capsys.readouterr().err
        assert f"{name.as_posix()}" in said and "checkpoints.5.damaged-1" in said
        assert losses(out) == losses(tmp_path / "whole") and identical(out, tmp_path / "whole")
        assert not (out / "checkpoints").exists() and not (out / "checkpoints.records").exists()


def test_a_finished_run_is_not_trained_over(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_records(tmp_path / "d.jsonl", preferences(8, 0, False))
    argv = ["train", "--model", str(model), "--data", str(data), "--out", str(tmp_path / "o"), *FAST]
    assert main(argv) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "o").rglob("*") if path.is_file()}
    assert main([*argv, "lr=2e-2"]) == 2
    assert "is of another run: config.lr was 0.01, is 0.02" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "o").rglob("*") if path.is_file()} == before
    (tmp_path / "o" / "report.json").unlink()
    assert main(argv) == 2 and "what was trained there" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_at_random_moments_gives_the_same_bits(model: Path, tmp_path: Path) -> None:
    """Kill -9, five times: at steps, and while a checkpoint is being written (one is, every second step)."""
    data = write_records(tmp_path / "d.jsonl", preferences(64, 0, False))
    command = [sys.executable, "-m", "sgtr_jax.cli", "train", "--model", str(model), "--data", str(data), *FAST]
    command += ["epochs=6", "lora.dropout=0.1", "checkpoint.every_steps=2", "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    steps = len(losses(tmp_path / "whole"))
    out = tmp_path / "killed"
    draw = random.Random(0)
    hits = {"writing": 0, "between": 0}
    for want in ("writing", "between", "writing", "between", "writing"):
        process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = _saved(out)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            half_made = any("tmp" in path.name for path in _children(out / "checkpoints"))
            if _saved(out) > begun and (half_made if want == "writing" else not half_made):
                hits[want] += 1
                break
            time.sleep(0.0005)
        if want == "between":
            time.sleep(draw.random() * 0.2)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert hits["writing"] >= 1 and hits["between"] >= 1
    done = subprocess.run([*command, str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert losses(out) == losses(tmp_path / "whole") and len(losses(out)) == steps
    assert identical(out, tmp_path / "whole")


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _saved(out: Path) -> int:
    """The latest complete checkpoint's step."""
    return max((int(path.name) for path in _children(out / "checkpoints") if path.name.isdigit()), default=0)


@pytest.mark.slow
def test_sigterm_to_the_command(model: Path, tmp_path: Path) -> None:
    data = write_records(tmp_path / "d.jsonl", preferences(64, 0, False))
    command = [sys.executable, "-m", "sgtr_jax.cli", "train", "--model", str(model), "--data", str(data), *FAST]
    command += ["epochs=40", "--out", str(tmp_path / "o")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
    reader.start()
    while not (tmp_path / "o" / "metrics.jsonl").exists() or len(losses(tmp_path / "o")) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    reader.join()
    assert "asked to stop; saved" in "".join(lines) and "Traceback" not in "".join(lines)
    saved = _saved(tmp_path / "o")
    assert saved == len(losses(tmp_path / "o")) >= 3
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert [json.loads(line)["step"] for line in (tmp_path / "o" / "metrics.jsonl").open()] == list(range(1, 321))
