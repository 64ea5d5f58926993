"""Which package may import which. Lower rooms know nothing of higher ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Room: rooms it may import, besides itself. Modules at the top of sgtr_jax are rooms of their own.
GROUND = {"errors", "config", "files", "fingerprint", "memory", "progress", "startup", "tokenizer"}
GROUND |= {"buckets", "processes", "sealed", "yaml_text"}
MODEL = GROUND | {"mesh", "models"}
DATA = GROUND | {"data"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors", "yaml_text"},
    "buckets": {"errors", "files"},
    "cli_data": GROUND | {"data", "model", "backends", "sgtr_eval"},
    "doctor": {"errors"},
    "files": {"errors"},
    "fingerprint": {"errors"},
    "processes": {"errors", "startup"},
    "progress": set(),
    "sealed": {"errors", "files", "fingerprint"},
    "startup": {"errors", "files"},
    "supervise": set(),
    "tokenizer": {"errors", "files"},
    "memory": set(),
    "yaml_text": {"errors", "files"},
    "mesh": {"errors", "config"},
    "models": GROUND | {"mesh"},
    "lora": {"config", "models"},
    "weights": MODEL | {"lora"},
    "data": GROUND,
    "sample": MODEL | DATA | {"lora"},
    "train": MODEL | DATA | {"lora"},
    "model": MODEL | DATA | {"lora", "weights", "sample", "nano"},
    "nano": MODEL | DATA | {"train", "weights", "backends"},
    "backends": MODEL | DATA | {"lora", "weights", "sample", "train", "model", "plan"},
    "experiment": MODEL | DATA | {"lora", "sample", "train", "model", "backends", "report", "plan", "sgtr_eval", ""},
    "plan": MODEL | DATA | {"lora", "train", "sample"},
    "report": GROUND | {"sgtr_eval"},
    "cli": MODEL
    | DATA
    | {"model", "sample", "train", "backends", "experiment", "report", "cli_data", "doctor", "supervise", ""},
    "sgtr_eval": GROUND | {"model", "sample", "data"},
}


def room_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "sgtr_eval":
        return "sgtr_eval"
    if parts[0] != "sgtr_jax":
        return None
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module == "sgtr_jax":
                found |= {
                    f"sgtr_jax.{a.name}" if (ROOT / "sgtr_jax" / a.name).is_dir() else "sgtr_jax" for a in node.names
                }
            else:
                found.add(node.module)
    return found


FILES = sorted([*(ROOT / "sgtr_jax").rglob("*.py"), *(ROOT / "eval").rglob("*.py")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    relative = path.relative_to(ROOT if path.is_relative_to(ROOT / "sgtr_jax") else ROOT / "eval")
    here = "sgtr_eval" if relative.parts[0] == "sgtr_eval" else relative.parts[1].removesuffix(".py")
    if here == "__init__":
        return
    for module in imports(path):
        room = room_of(module)
        if room is not None and room != here:
            assert room in ALLOWED[here], f"{relative} imports {module}"


def test_no_file_is_too_long_and_none_is_named_for_nothing() -> None:
    for path in [*FILES, *(ROOT / "tests").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 450, path
        assert path.stem not in ("utils", "helpers", "misc", "common"), path


def test_torch_is_never_imported_at_run_time() -> None:
    for path in FILES:
        assert not {m.split(".")[0] for m in imports(path)} & {"torch", "peft", "accelerate"}, path


def test_help_does_not_import_jax() -> None:
    code = (
        "import sys, sgtr_jax.cli as c\n"
        "try: c.main(['--help'])\nexcept SystemExit: pass\n"
        "assert 'jax' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
