"""`sgtr sample`: a file that is complete or goes on where it was, in the order of its prompts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import processes
import pytest
from runs import jsonl
from tiny import SEED, make_adapter, make_model

from sgtr_jax.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    spec = make_model(folder / "m", SEED)
    make_adapter(folder / "a", spec, 1, 0.3)
    make_adapter(folder / "b", spec, 2, 0.3)
    rows = [{"id": f"q{i}", "messages": [{"role": "user", "content": f"Question {i}?"}]} for i in range(6)]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def argv(model: Path, out: Path, *more: str) -> list[str]:
    return ["sample", "--model", str(model / "m"), "--prompts", str(model / "p.jsonl"), "--out", str(out),
            "--n", "3", "--max-tokens", "12", *more]  # fmt: skip


def rows_of(path: Path) -> list[dict[str, Any]]:
    return jsonl(path)


def test_rows_that_are_there_are_not_sampled_again(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.jsonl"
    assert main(argv(model, out)) == 0
    whole = out.read_bytes()
    assert [(row["id"], row["sample"]) for row in rows_of(out)] == [(f"q{i}", n) for i in range(6) for n in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.jsonl", "o.jsonl.recipe.json"]
    capsys.readouterr()
    assert main(argv(model, out)) == 0
    assert "all sampled before" in capsys.readouterr().out and out.read_bytes() == whole
    # Rows that were lost come back, to their place.
    out.write_text("".join(line + "\n" for line in whole.decode().split("\n")[4:9]))
    assert main(argv(model, out)) == 0
    assert out.read_bytes() == whole
    # Other settings are another file's.
    assert main(argv(model, out, "--seed", "1")) == 0
    assert out.read_bytes() != whole


def test_a_killed_run_goes_on(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv(model, tmp_path / "whole.jsonl", "batch_rows=2")) == 0
    lines = (tmp_path / "whole.jsonl").read_text().strip().split("\n")
    recipe = json.dumps(json.loads((tmp_path / "whole.jsonl.recipe.json").read_text()))
    out, partial = tmp_path / "o.jsonl", tmp_path / "o.jsonl.partial"
    # As a kill leaves it: rows as they came, the last one cut in the middle.
    partial.write_text("\n".join([recipe, lines[7], lines[2], lines[11][:20]]))
    assert main(argv(model, out)) == 0
    assert out.read_text().strip().split("\n") == lines and not partial.exists()
    out.unlink()
    partial.write_text("\n".join([recipe, lines[7]]) + "\n")
    assert main(argv(model, out, "--temperature", "0.5")) == 2
    assert "temperature differ" in capsys.readouterr().err
    partial.write_text("\n".join([recipe, lines[7][:9], lines[2]]) + "\n")
    assert main(argv(model, out)) == 2
    assert "line 2 is damaged" in capsys.readouterr().err


def test_rows_are_of_this_model_and_adapter_and_as_they_were_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.jsonl"
    shutil.copytree(model / "a", tmp_path / "stronger")
    config = tmp_path / "stronger" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 80}))
    assert main(argv(model, out, "--adapter", str(model / "a"))) == 0
    whole = out.read_text()
    # The same weights under another alpha are another adapter.
    assert main(argv(model, out, "--adapter", str(tmp_path / "stronger"))) == 0
    assert "all sampled before" not in capsys.readouterr().out and out.read_text() != whole
    assert main(argv(model, out, "--adapter", str(model / "a"))) == 0 and out.read_text() == whole
    # A changed row is sampled again, and so is one that is no row any more.
    first, second, *rest = whole.split("\n")
    out.write_text("\n".join([first.replace('"text": "', '"text": "x'), "[]", *rest]))
    capsys.readouterr()
    assert main(argv(model, out, "--adapter", str(model / "a"))) == 0
    assert "2 rows are missing or were changed" in capsys.readouterr().err and out.read_text() == whole
    sidecar = tmp_path / "o.jsonl.recipe.json"
    for content in ("", "[]", "{}", sidecar.read_text().replace('"seed": 0', '"seed": 1')):
        sidecar.write_text(content)
        assert main(argv(model, out, "--adapter", str(model / "a"))) == 2
        assert "o.jsonl.recipe.json" in capsys.readouterr().err and out.read_text() == whole


def test_what_was_not_sampled_is_not_written_over(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "mine.txt"
    own.write_text("mine")
    for target in (own, model / "p.jsonl", tmp_path):
        before = target.read_bytes() if target.is_file() else b""
        assert main(argv(model, target)) == 2
        assert "give another --out" in capsys.readouterr().err
        assert before == (target.read_bytes() if target.is_file() else b"")
    (tmp_path / "o.jsonl.partial").write_text("[]\n")
    assert main(argv(model, tmp_path / "o.jsonl")) == 2 and "o.jsonl.partial:1" in capsys.readouterr().err


@pytest.mark.slow
def test_kill_nine(model: Path, tmp_path: Path) -> None:
    many = [*argv(model, tmp_path / "o.jsonl", "batch_rows=4"), "--n", "60"]
    command = [sys.executable, "-m", "sgtr_jax.cli", *many]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    partial = tmp_path / "o.jsonl.partial"
    while not partial.exists() or partial.read_text().count("\n") < 40:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = len(partial.read_text().strip().split("\n")) - 1
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"sample: {360 - before}/{360 - before} rows" in done.stderr or before < 360
    subprocess.run([*command, "--out", str(tmp_path / "whole.jsonl")], check=True, capture_output=True)
    assert (tmp_path / "o.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_several_chains_in_one_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = model / "a", model / "b"
    chains = ["--chain", "base=", "--chain", f"one={a}", "--chain", f"two={a},{b}"]
    assert main(argv(model, tmp_path / "all.jsonl", *chains)) == 0
    found = rows_of(tmp_path / "all.jsonl")
    assert [row.pop("chain") for row in found] == ["base"] * 18 + ["one"] * 18 + ["two"] * 18
    for i, adapters in enumerate(([], [a], [a, b])):
        out = tmp_path / f"{i}.jsonl"
        assert main(argv(model, out, *[word for path in adapters for word in ("--adapter", str(path))])) == 0
        assert rows_of(out) == found[18 * i : 18 * i + 18]
    assert main(argv(model, tmp_path / "x.jsonl", "--adapter", str(a), *chains)) == 2
    assert "not both" in capsys.readouterr().err


def test_settings_of_the_draw(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv(model, tmp_path / "o.jsonl", "top_k=1", "logprobs=2", "system=Be brief.")) == 0
    rows = rows_of(tmp_path / "o.jsonl")
    assert rows[0]["text"] == rows[1]["text"] and rows[0]["logprobs"][0]["top"][0][0] == rows[0]["logprobs"][0]["token"]
    for bad, part in (
        ("top_p=0", "top_p"), ("top_k=-1", "top_k"), ('stop=[""]', "empty text"), ("logprobs=1000", "logprobs"),
        ("topp=1", "did you mean 'top_p'"), ("mesh={tensor: 3}", "Shapes"),
    ):  # fmt: skip
        assert main(argv(model, tmp_path / "x.jsonl", bad)) == 2
        assert part in capsys.readouterr().err
    assert main(argv(model, tmp_path / "x.jsonl", "--max-tokens", "100000")) == 2
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "mesh"), [(2, "{fsdp: 2}"), (4, "{fsdp: 2, tensor: 2}")])
def test_several_processes_write_what_one_does(model: Path, tmp_path: Path, count: int, mesh: str) -> None:
    assert main(argv(model, tmp_path / "one.jsonl")) == 0
    more = ["--chain", "base=", "--chain", f"one={model / 'a'}"]
    assert main(argv(model, tmp_path / "chains.jsonl", *more)) == 0
    for name, words in (("one", []), ("chains", more)):
        out = tmp_path / f"{name}-{count}.jsonl"
        ended = processes.finish(processes.start(argv(model, out, f"mesh={mesh}", "batch_rows=8", *words), count))
        assert [code for code, _, _ in ended] == [0] * count, ended[0][2]
        assert out.read_bytes() == (tmp_path / f"{name}.jsonl").read_bytes()
