"""Environments of the peers, made once under `benchmarks/.peers`; never dependencies of the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = {
    # torch by an exact version: an open one brings the CUDA build.
    "torch+peft": ("torch==2.13.0", "transformers", "peft", "accelerate", "numpy"),
    "tunix": ("google-tunix", "jax", "flax"),
}


def environment_of(peer: str) -> str:
    """Path of a Python that has the peer installed."""
    folder = Path(__file__).parent.resolve() / ".peers" / peer
    python, mark = folder / "bin" / "python", folder / ".ready"
    if not mark.exists():
        print(f"making the environment of {peer} in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        constraints = Path(__file__).parent.parent / "constraints.txt"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if peer == "torch+peft":
            pip += ["-c", str(constraints)]
        subprocess.run([*pip, *PACKAGES[peer]], check=True)
        mark.touch()
    return str(python)
