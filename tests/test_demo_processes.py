"""The whole demo as a job of several processes: `make demo-processes`, after `make demo`; ten minutes each."""

from __future__ import annotations

from pathlib import Path

import processes
import pytest

pytestmark = pytest.mark.demo_processes
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("count", [2, 4])
def test_it_gives_the_numbers_of_one_process(tmp_path: Path, count: int) -> None:
    alone = ROOT / "runs" / "demo" / "results.csv"
    if not alone.exists():
        pytest.fail("run `make demo` first: its results are what these are compared with")
    argv = ["run", str(ROOT / "configs" / "demo.yaml"), f"out={tmp_path}"]
    ended = processes.finish(processes.start(argv, count), timeout=3000)
    assert [code for code, _, _ in ended] == [0] * count, ended[0][2]
    assert (tmp_path / "results.csv").read_text() == alone.read_text()
    assert (tmp_path / "report.html").exists()
