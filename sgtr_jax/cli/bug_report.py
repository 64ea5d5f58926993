"""What a bug report says of a machine and of a run: versions, checks, settings of JAX, what failed; no secrets."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sgtr_jax import __version__
from sgtr_jax.errors import InputError
from sgtr_jax.keys import own_keys, without_keys
from sgtr_jax.report.tables import read_failures

# Variables whose values say how a program runs; of all others nothing is said.
_VARIABLES = re.compile(r"(JAX|XLA|LIBTPU|TF_CPP|OMP|CUDA_VISIBLE)_?\w*|NVIDIA_VISIBLE_DEVICES")
_LAST_LINES = 15  # of a traceback
_MOST_FAILURES = 5


def bug_report(found: Mapping[str, tuple[str, str | None]], run: Path) -> None:
    """Print it as Markdown; `found` are the doctor's findings, `run` a run's folder, or the empty path for none.

    Raises InputError for a folder that is none.
    """
    lines = ["## sgtr doctor --report", "", f"sgtr-jax {__version__}, {platform.platform()}", ""]
    lines += [f"- {'ok' if fix is None else 'PROBLEM'} {name}: {said}" for name, (said, fix) in found.items()]
    lines += ["", "Packages: " + ", ".join(_packages()), ""]
    set_here = {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)}
    lines += ["Variables: " + (", ".join(f"{name}={value}" for name, value in set_here.items()) or "none"), ""]
    if run != Path():
        lines += _failures(run)
    print(cleaned("\n".join(lines)))


def cleaned(text: str) -> str:
    """Without keys, and with the folders of this machine's user as `~` and `.`."""
    text = without_keys(text, own_keys())
    for folder, short in ((Path.cwd(), "."), (Path.home(), "~")):
        if folder != Path("/"):
            text = text.replace(str(folder), short)
    return text


def _packages() -> Iterator[str]:
    needed = importlib.metadata.requires("sgtr-jax") or []
    names = dict.fromkeys(match[0] for one in needed if (match := re.match(r"[\w.-]+", one)))
    for name in ("jaxlib", *names):
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed


def _failures(run: Path) -> list[str]:
    if not (run / "experiment.json").is_file():
        raise InputError(f"--report {run}: no run here (no experiment.json)")
    failures = read_failures(run / "failures.json")
    lines = [f"{len(failures)} failed in {run}" + (":" if failures else "")]
    for name, entry in list(failures.items())[:_MOST_FAILURES]:
        lines += ["", f"{name}: {entry['why']}", "", "```", *entry.get("traceback", [])[-_LAST_LINES:], "```"]
    return lines
