"""The benchmark of one accelerator: its floors by hand, that it refuses to time what is wrong, and a tiny run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
CONFIG = {
    "model_type": "qwen2", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 10,
}  # fmt: skip


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    import accelerator

    yield accelerator
    for name in set(sys.modules) - before:
        if name.startswith("accelerator") or name == "cases":
            del sys.modules[name]


def test_floors_by_hand(benchmark: Any) -> None:
    from accelerator_cases import Shape

    shape = Shape(CONFIG, tiny=False)
    # q and o are 8 x 8, k and v 8 x 4, gate and up 8 x 12, down 12 x 8.
    assert shape.kernels == 3 * (2 * 64 + 2 * 32 + 3 * 96)
    assert shape.adapter == 3 * 32 * (2 * 16 + 2 * 12 + 3 * 20)
    # One example of three tokens with two targets: six pairs a layer, of 8 channels; scores and mix, forward and twice
    # backward, two operations each.
    wanted = 3 * (4 * shape.kernels + 6 * shape.adapter) + 2 * 4 * 80 + 3 * 6 * 8 * (2 + 2) * 3
    assert shape.training_flops([3], [2]) == wanted
    assert shape.prompt_flops(2, 3) == 2 * (2 * (3 * shape.kernels + 80) + 3 * 6 * 8 * (2 + 2))
    # Keys and values of four channels in three layers, two bytes each; the embedding table is not read.
    assert shape.cache_bytes == 3 * 2 * 4 * 2
    assert shape.token_bytes(5, 7.0, 2) == 2 * (shape.kernels + 80) + 4 * 2 * shape.adapter + 5 * 7 * 48


def test_floors_are_of_what_the_models_have(benchmark: Any) -> None:
    """Qwen2.5-7B without its embedding table, and its cache of a token: 28 layers of 4 heads of 128 channels."""
    from accelerator_cases import Shape

    path = BENCHMARKS.parent / "configs" / "models" / "Qwen2.5-7B-Instruct.json"
    shape = Shape.read(path, tiny=False)
    assert shape.kernels + shape.head == pytest.approx(7.07e9, rel=0.01)
    assert shape.cache_bytes == 57_344


def test_nothing_is_timed_if_a_check_fails(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = [{"device": "card"}, {"check": "greedy tokens", "value": 0.4, "limit": 0.02}]
    asked: list[str] = []

    class Child:
        code = 3

        def __init__(self, script: str, arguments: list[str]) -> None:
            asked.append(script)

        def lines(self) -> Iterator[dict[str, Any]]:
            yield from lines

    monkeypatch.setattr(benchmark, "_Child", Child)
    monkeypatch.setattr(sys, "argv", ["accelerator.py", "--peer", "--out", str(tmp_path / "f.json")])
    assert benchmark.main() == 3
    assert asked == ["accelerator_ours.py"]
    out = capsys.readouterr().out
    assert "WRONG" in out and "nothing was timed: greedy tokens" in out
    assert json.loads((tmp_path / "f.json").read_text())["cases"] == []


def test_rows_have_the_form_of_the_other_benchmarks(benchmark: Any) -> None:
    case = benchmark.CASES["decode_64"]
    row = benchmark.row_of(case, {"rate": 9000.04, "share": 0.8123, "peak_gb": 17.96})
    assert row == {
        "name": "decode_64", "unit": "tokens/s", "aim": 0.8, "limit": "reading weights and cache", "ours": 9000.04,
        "share_of_limit": 0.812, "peak_gb": 18.0,
    }  # fmt: skip
    assert benchmark.row_of(case, {"error": "OutOfMemory"})["error"] == "OutOfMemory"


@pytest.mark.parity
@pytest.mark.slow
def test_a_tiny_run_with_the_peer(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    out = tmp_path / "f.json"
    command = [sys.executable, str(BENCHMARKS / "accelerator.py"), "--tiny", "--peer", "--out", str(out)]
    cases = ["train_short", "train_sgtr", "decode_256", "generate_64", "score"]
    done = subprocess.run([*command, "--cases", *cases], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())
    assert len(found["checks"]) == 12 and all(one["value"] <= one["limit"] for one in found["checks"])
    assert [row["name"] for row in found["cases"]] == cases
    for row in found["cases"]:
        assert row["ours"] > 0 and row["share_of_limit"] > 0
        assert ("ratio" in row) == (row["name"] != "decode_256") and "peer_error" not in row
    assert found["matrix_tflops"] > 0 and found["copy_tb_s"] > 0
