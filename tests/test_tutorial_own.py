"""docs/tutorial-own.md, typed as it stands in an empty folder, and the notebook that plots its numbers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer

from sgtr_jax.cli.main import parse

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tutorial-own.md").read_text()
FILES = dict(re.findall(r'^```\w+ title="([\w.]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))
LINES = [line.strip() for line in re.findall(r"^    (sgtr .*)$", PAGE, re.MULTILINE)]


def test_every_command_of_it_is_understood() -> None:
    assert set(FILES) == {"talks.py", "my_eval.py", "taste.jsonl", "rubric.md", "mine.yaml"} and len(LINES) >= 9
    for line in LINES:
        assert callable(parse(shlex.split(line, comments=True)[1:]).command), line


def notebook() -> Any:
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(ROOT / "docs" / "results.ipynb", as_version=4)


def test_the_notebook_is_whole_and_without_results() -> None:
    nbformat, read = pytest.importorskip("nbformat"), notebook()
    nbformat.validate(read)
    code = [cell for cell in read.cells if cell.cell_type == "code"]
    assert code and all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.slow
def test_it_is_typed_from_the_first_command_to_the_notebook(tmp_path: Path) -> None:
    server = JudgeServer(lambda prompt: "10" if "tea" in prompt else "70")
    env = {
        **os.environ,
        "OPENAI_API_KEY": "k",
        "INSPECT_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "eval")]),
    }

    def call(*words: str, folder: Path) -> str:
        done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout + done.stderr

    def sgtr(line: str, folder: Path) -> str:
        return call(sys.executable, "-m", "sgtr_jax.cli", *shlex.split(line, comments=True)[1:], folder=folder)

    def line_of(start: str) -> str:
        return next(line for line in LINES if line.startswith(start))

    sgtr(line_of("sgtr init"), tmp_path)
    mine = tmp_path / "mine"
    for name, text in FILES.items():
        (mine / name).write_text(text.replace("http://127.0.0.1:8000/v1", server.url))
    call(sys.executable, "talks.py", folder=mine)
    assert "(64 texts)" in sgtr(line_of("sgtr data check"), mine)
    assert "3 runs" in sgtr(line_of("sgtr plan"), mine)
    assert "answers are sampled" in sgtr(line_of("sgtr run mine.yaml --no-judge"), mine)
    assert "4 to do" in sgtr(line_of("sgtr status"), mine)
    assert "report.html" in sgtr("sgtr run mine.yaml", mine)
    assert "mean_score" in (mine / "runs" / "mine" / "results.csv").read_text()
    sgtr(line_of("sgtr bundle"), mine)
    (tmp_path / "there").mkdir()
    (mine / "mine.tar.gz").rename(tmp_path / "there" / "mine.tar.gz")
    assert "artifacts are done" in sgtr("sgtr run mine.tar.gz", tmp_path / "there")
    nbclient, read = pytest.importorskip("nbclient"), notebook()
    read.cells[1].source = 'RUN = "runs/mine"'
    os.environ["PYTHONPATH"] = env["PYTHONPATH"]
    nbclient.NotebookClient(read, timeout=300, resources={"metadata": {"path": str(mine)}}).execute()
    shown = [out.get("data", {}) for cell in read.cells if cell.cell_type == "code" for out in cell.outputs]
    assert any("image/png" in data for data in shown) and any("text/html" in data for data in shown)
