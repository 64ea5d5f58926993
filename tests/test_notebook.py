"""The Colab notebook: well-formed, and its demo part runs from the first cell to the last figure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sgtr_jax.data.registry import registry

nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "tpu" / "colab.ipynb"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_whole_and_without_results(notebook: Any) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    for cell in code:
        compile(cell.source, "cell", "exec")
    # Sets that it fetches exist.
    fetched = re.search(r'"fetch",\s*(.*?)\)', next(c.source for c in code if '"fetch"' in c.source), re.DOTALL)
    assert fetched is not None
    assert set(re.findall(r'"(\w+)"', fetched.group(1))) <= set(registry())


@pytest.mark.notebook
def test_its_demo_part_runs(notebook: Any) -> None:
    nbclient = pytest.importorskip("nbclient")
    notebook.cells = [cell for cell in notebook.cells if "real" not in cell.metadata.get("tags", [])]
    nbclient.NotebookClient(notebook, timeout=1500, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = [output.data for output in outputs if output.output_type == "display_data"]
    assert sum("image/png" in data for data in shown) >= 2
    table = next(data["text/plain"] for data in shown if "text/html" in data)
    assert "share_naming_maker" in table and "base" in table
