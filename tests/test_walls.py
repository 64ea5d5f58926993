"""Which package may import which. Lower rooms know nothing of higher ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Room: the rooms that it may import, besides itself; lower rooms first. Modules at the top of sgtr_jax are rooms, too.
ALLOWED: dict[str, set[str]] = {
    "arrays": set(),
    "json_types": set(),
    "keys": set(),
    "near": set(),
    "errors": {"near"},
    "nano": set(),
    "progress": set(),
    "packed": {"errors"},
    "files": {"errors", "json_types", "packed"},
    "fingerprint": {"errors"},
    "buckets": {"errors", "files"},
    "sealed": {"errors", "files", "fingerprint", "json_types"},
    "yaml_text": {"errors", "files", "json_types"},
    "config": {"errors", "json_types", "near", "yaml_text"},
    "distributed": {"arrays", "config", "errors", "files"},
    "lora": {"arrays", "config"},
    "data": {
        "buckets",
        "config",
        "distributed",
        "errors",
        "files",
        "fingerprint",
        "json_types",
        "packed",
        "sealed",
        "yaml_text",
    },
    "models": {"arrays", "distributed", "errors", "files", "lora"},
    "train": {
        "arrays",
        "config",
        "data",
        "distributed",
        "errors",
        "json_types",
        "lora",
        "models",
        "progress",
        "sealed",
    },
    "weights": {
        "arrays",
        "buckets",
        "data",
        "distributed",
        "errors",
        "files",
        "fingerprint",
        "json_types",
        "lora",
        "models",
        "sealed",
    },
    "sample": {
        "arrays",
        "buckets",
        "config",
        "data",
        "distributed",
        "errors",
        "files",
        "fingerprint",
        "json_types",
        "lora",
        "models",
        "nano",
        "progress",
        "sealed",
        "weights",
    },
    "estimate": {"arrays", "data", "distributed", "errors", "lora", "models", "sample", "train"},
    "sgtr_eval": {"config", "data", "errors", "files", "json_types", "models", "sample", "yaml_text"},
    "finetune": {
        "arrays",
        "config",
        "data",
        "distributed",
        "errors",
        "estimate",
        "files",
        "fingerprint",
        "json_types",
        "lora",
        "models",
        "packed",
        "sample",
        "sealed",
        "train",
        "weights",
    },
    "backends": {"finetune"},
    "report": {"errors", "files", "json_types", "sealed", "sgtr_eval"},
    "experiment": {
        "",
        "buckets",
        "config",
        "data",
        "distributed",
        "errors",
        "estimate",
        "files",
        "finetune",
        "fingerprint",
        "json_types",
        "keys",
        "lora",
        "models",
        "progress",
        "report",
        "sample",
        "sealed",
        "sgtr_eval",
        "train",
        "weights",
    },
    "cli": {
        "",
        "buckets",
        "config",
        "data",
        "distributed",
        "errors",
        "experiment",
        "files",
        "finetune",
        "json_types",
        "keys",
        "models",
        "near",
        "packed",
        "progress",
        "report",
        "sample",
        "sgtr_eval",
    },
}


def room_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "sgtr_eval":
        return "sgtr_eval"
    if parts[0] != "sgtr_jax":
        return None
    return parts[1] if len(parts) > 1 else ""


def room_of_file(path: Path) -> str | None:
    """None for the package's own `__init__.py`."""
    relative = path.relative_to(ROOT if path.is_relative_to(ROOT / "sgtr_jax") else ROOT / "eval")
    here = "sgtr_eval" if relative.parts[0] == "sgtr_eval" else relative.parts[1].removesuffix(".py")
    return None if here == "__init__" else here


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
    here = room_of_file(path)
    if here is None:
        return
    for module in imports(path):
        room = room_of(module)
        if room is not None and room != here:
            assert room in ALLOWED[here], f"{path.relative_to(ROOT)} imports {module}"


def test_no_file_is_too_long_and_none_is_named_for_nothing() -> None:
    for path in [*FILES, *(ROOT / "tests").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 450, path
        assert path.stem not in ("utils", "helpers", "misc", "common"), path


def test_torch_is_never_imported_at_run_time() -> None:
    for path in FILES:
        assert not {m.split(".")[0] for m in imports(path)} & {"torch", "peft", "accelerate"}, path


def test_help_does_not_import_jax() -> None:
    code = (
        "import sys, sgtr_jax.cli.main as c\n"
        "try: c.main(['--help'])\nexcept SystemExit: pass\n"
        "assert 'jax' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def imported_rooms() -> dict[str, set[str]]:
    """For each room the rooms that any of its files imports."""
    found: dict[str, set[str]] = {room: set() for room in ALLOWED}
    for path in FILES:
        here = room_of_file(path)
        if here is not None:
            found[here] |= {room for module in imports(path) if (room := room_of(module)) not in (None, here)}
    return found


def test_there_is_no_circle_of_rooms() -> None:
    """Rooms can be put in an order in which each imports earlier ones only."""
    waiting = imported_rooms()
    while waiting:
        free = [room for room, needed in waiting.items() if not needed & waiting.keys()]
        assert free, f"these rooms import each other: {sorted(waiting)}"
        for room in free:
            del waiting[room]


def test_no_permission_is_unused() -> None:
    used = imported_rooms()
    assert {room: sorted(allowed - used[room]) for room, allowed in ALLOWED.items() if allowed - used[room]} == {}
