"""The map of files: the first line of every module's docstring, by folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("sgtr_jax", "eval/sgtr_eval", "examples", "benchmarks", "docs", "tests")
OTHERS = {
    ".ci/run": "Everything that must hold, in one command.",
    "Makefile": "Set-up, demo, tests; see CONTRIBUTING.md.",
    "configs/": "The demo, the study (`paper/`), templates (`experiments/`), the data sets (`datasets/`), prices.",
    "constraints.txt": "The pinned versions that everything was tested with.",
    "mkdocs.yml": "The menu and the settings of this site.",
    "pyproject.toml": "The package, its dependencies, and the settings of the tools.",
    "tpu/": "Launch scripts for TPU slices, the Colab notebook, files for SkyPilot and GKE.",
}


def file_map_page() -> str:
    """The page in Markdown. Raises ValueError for a module whose docstring has no first line."""
    lines = ["# Files", "", "Every file of the repository, with the first line of its docstring.", ""]
    lines += ["| file | what it holds |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in OTHERS.items()), ""]
    for folder in FOLDERS:
        for directory, files in _by_directory(ROOT / folder):
            lines += [f"## {directory}", "", "| file | what it holds |", "|---|---|"]
            lines += [f"| `{path.name}` | {first_line(path)} |" for path in files]
            lines.append("")
    return "\n".join(lines)


def modules() -> list[Path]:
    """The modules that the map lists; an `__init__.py` only where it says something."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not _is_hidden(path)]
    return sorted(path for path in found if path.name != "__init__.py" or path.read_text(encoding="utf-8").strip())


def first_line(path: Path) -> str:
    """The first line of a module's docstring. Raises ValueError if it has none."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{path.relative_to(ROOT)}: expected a docstring whose first line says what the file holds")
    return text.splitlines()[0].replace("|", "\\|")


def _by_directory(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    inside = [path for path in modules() if path.is_relative_to(folder)]
    for directory in sorted({path.parent for path in inside}):
        yield str(directory.relative_to(ROOT)), [path for path in inside if path.parent == directory]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(ROOT).parts)
