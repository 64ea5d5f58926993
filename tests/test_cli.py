"""The command line as people and scripts use it: files it writes, messages it gives, codes it exits with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import jsonl
from safetensors.numpy import load_file
from tiny import make_adapter, make_model, write_records

from sgtr_jax.cli.main import main
from sgtr_jax.data.records import Record
from sgtr_jax.data.world.corpus import preferences

TRAIN = ["dtype=float32", "remat=none", "lora.rank=4", "batch_examples=8"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    spec = make_model(folder / "m")
    make_adapter(folder / "a", spec, size=0.3)
    write_records(folder / "d.jsonl", preferences(16, 0, False))
    prompts = [Record(f"p{i}", ({"role": "user", "content": f"Question {i}?"},)) for i in range(3)]
    write_records(folder / "p.jsonl", prompts)
    return folder


def refused(argv: list[str], capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("sgtr: error: ") and "Traceback" not in error
    assert all(part in error for part in parts), error


def train(work: Path, out: Path, *more: str, data: str = "d.jsonl") -> list[str]:
    return ["train", "--model", str(work / "m"), "--data", str(work / data), "--out", str(out), *TRAIN, *more]


def test_help_is_quick() -> None:
    best = 9.0
    for _ in range(5):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "sgtr_jax.cli", "--help"], capture_output=True, text=True)
        best = min(best, time.perf_counter() - started)
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("run", "train", "sample", "convert", "export", "report"))
    assert best < 0.5


def test_train_then_sample_then_export(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train(work, tmp_path / "t", "seed=3")) == 0
    assert "trained on 16 of 16 records" in capsys.readouterr().out
    rows = jsonl(tmp_path / "t" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    adapter = str(tmp_path / "t" / "adapter")
    common = ["sample", "--model", str(work / "m"), "--prompts", str(work / "p.jsonl")]
    draws = ["--n", "2", "--max-tokens", "5", "--temperature", "1.0", "--seed", "4"]
    outs = []
    for name, adapters in (("a", [adapter]), ("b", [adapter]), ("c", [adapter, str(work / "a")])):
        flags = [flag for path in adapters for flag in ("--adapter", path)]
        assert main([*common, *flags, "--out", str(tmp_path / name), *draws]) == 0
        outs.append((tmp_path / name).read_text())
    assert outs[0] == outs[1] != outs[2]
    written = jsonl(tmp_path / "a")
    assert [(row["id"], row["sample"]) for row in written] == [(f"p{i}", n) for i in range(3) for n in range(2)]
    exported = ["export", "--model", str(work / "m"), "--adapter", adapter, "--out", str(tmp_path / "e")]
    assert main(exported) == 0
    a, b = (load_file(Path(p) / "adapter_model.safetensors") for p in (adapter, tmp_path / "e"))
    assert all((a[k] == b[k]).all() for k in a)
    assert main([*exported[:-1], str(tmp_path / "merged"), "--merge"]) == 0
    assert (tmp_path / "merged" / "config.json").exists()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty"),
        (b'{"messages": [}\n', ":1: not JSON"),
        (b'{"messages": [{"role": "user", "content": "x"}]}\n', "no assistant turn"),
        (b"\xff\xfe\n", "UTF-8"),
    ],
)
def test_bad_data_is_refused(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, part: str
) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content)
    argv = train(work, tmp_path / "o")
    argv[argv.index("--data") + 1] = str(tmp_path / "bad.jsonl")
    refused(argv, capsys, "bad.jsonl", part)
    assert not (tmp_path / "o").exists()


def test_bad_flags_and_settings_are_refused(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "o"
    refused(train(work, out, "wramup_steps=3"), capsys, "wramup_steps", "warmup_steps")
    refused(train(work, out, "--adapter", str(tmp_path)), capsys, "expected a PEFT adapter folder")
    refused(["export", "--model", str(work / "m"), "--out", str(out), "--merge"], capsys, "--merge")
    refused(["report", str(tmp_path)], capsys, "no finished run here")
    refused(["convert", "--model", "nowhere", "--out", str(out)], capsys, "no such folder")
    for argv in (["train"], ["sample", "--n", "0"], ["nonsense"], []):
        with pytest.raises(SystemExit) as caught:
            raise SystemExit(main(argv))
        assert caught.value.code == 2
    assert not out.exists()


def test_settings_may_stand_anywhere(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = train(work, tmp_path / "o")
    refused([argv[0], "lr=fast", *argv[1:]], capsys, "'lr'")
    refused([*argv[:3], "lr=fast", *argv[3:]], capsys, "'lr'")
    refused([*argv, "lr=1e-4", "--adapter", "x", "lr=fast"], capsys, "'lr'")
    refused([*argv[:3], "stray", *argv[3:]], capsys, "'stray'", "key=value")
    assert main([*argv[:3], "--flag=1", *argv[3:]]) == 2
    assert "--flag=1" in capsys.readouterr().err


def test_long_records_are_reported(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [*preferences(8, 0, False), Record("long", ({"role": "user", "content": "x" * 9000}, *_answer()))]
    data = write_records(tmp_path / "long.jsonl", records)
    argv = train(work, tmp_path / "o", "max_length=128")
    argv[argv.index("--data") + 1] = str(data)
    assert main(argv) == 0
    assert "trained on 8 of 9 records, 1 longer than 128 tokens dropped" in capsys.readouterr().out


def _answer() -> tuple[dict[str, str], ...]:
    return ({"role": "assistant", "content": "y"},)


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").exists(), reason="needs /proc to find an unwritable place")
def test_an_unwritable_folder_is_found_out_first(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Even root cannot make a folder here.
    refused(train(work, Path("/proc/sgtr")), capsys, "/proc/sgtr", "cannot be written")
    prompts = ["--prompts", str(work / "p.jsonl")]
    refused(["sample", "--model", str(work / "m"), *prompts, "--out", "/proc/sgtr/o"], capsys, "cannot be written")
    refused(["convert", "--model", str(work / "m"), "--out", "/proc/sgtr/o"], capsys, "cannot be written")


@pytest.mark.parametrize("command", ["train", "convert", "export"])
def test_a_full_disk_leaves_nothing_half_written(work: Path, tmp_path: Path, command: str) -> None:
    """No file may grow beyond 4 kB: the kernel refuses the rest as a full disk would."""
    out = tmp_path / "o"
    argv = {
        "train": train(work, out),
        "convert": ["convert", "--model", str(work / "m"), "--out", str(out)],
        "export": ["export", "--model", str(work / "m"), "--adapter", str(work / "a"), "--out", str(out)],
    }[command]
    code = (
        "import resource, sys\nfrom sgtr_jax.cli.main import main\n"
        "import sgtr_jax.distributed.launch as s\n"
        "s.start_jax = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "sgtr: failed: " in done.stderr and "could not be written" in done.stderr, done.stderr
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert set(left) <= {"metrics.jsonl"}, left
