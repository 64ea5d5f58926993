"""A bundle as the start of a run: what is in it is put in the run's folder, and its config is run."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from sgtr_jax.config import load_config
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.bundle import CONFIG, FOLDER, FORMAT, MANIFEST
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.left_out import LEFT_OUT
from sgtr_jax.experiment.run_lock import run_lock
from sgtr_jax.files import check_writable
from sgtr_jax.fingerprint import file_digest
from sgtr_jax.sealed import read_sealed


def is_bundle(path: Path) -> bool:
    """Whether a file that is to be run is a bundle."""
    return path.name.endswith((".tar.gz", ".tgz"))


def unpack(bundle: Path, overrides: Sequence[str]) -> Path:
    """Put a bundle's artifacts into the run's folder, where they are not there yet; returns its config.

    Raises InputError for a file that is no bundle, and for a folder in which the config of another one lies.
    """
    with tempfile.TemporaryDirectory() as made:
        try:
            with tarfile.open(bundle, "r:gz") as archive:
                archive.extractall(made, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(f"{bundle}: cannot be read as a bundle: {error}; `sgtr bundle` writes one") from None
        inside = sorted(Path(made).iterdir())
        if len(inside) != 1 or not (inside[0] / FOLDER / MANIFEST).is_file():
            raise InputError(f"{bundle}: is no bundle (no {FOLDER}/{MANIFEST} in it); `sgtr bundle` writes one")
        (whole,) = inside
        _check(bundle, whole / FOLDER)
        folder = load_config(ExperimentConfig, whole / FOLDER / CONFIG, overrides).folder
        check_writable(folder)
        with run_lock(folder):
            _merge(whole, folder)
    print(f"{bundle}: unpacked into {folder}")
    return folder / FOLDER / CONFIG


def _check(bundle: Path, own: Path) -> None:
    manifest = read_sealed(own / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"{bundle}: is a bundle of form {manifest.get('format')}, by sgtr-jax {manifest.get('sgtr_jax')}; this "
            f"version reads form {FORMAT}"
        )
    for name, digest in cast(dict[str, str], manifest["files"]).items():
        if not (own / name).is_file() or file_digest(own / name) != digest:
            raise InputError(f"{bundle}: {FOLDER}/{name} is not as it was written; get the bundle again")


def _merge(whole: Path, folder: Path) -> None:
    here = folder / FOLDER / MANIFEST
    if here.exists() and here.read_bytes() != (whole / FOLDER / MANIFEST).read_bytes():
        raise InputError(f"{folder}: holds another bundle; choose another folder with out=FOLDER")
    (folder / "store").mkdir(exist_ok=True)
    for path in sorted((whole / "store").iterdir()) if (whole / "store").is_dir() else ():
        target = folder / "store" / path.name
        if path.name != LEFT_OUT and not target.exists():
            shutil.move(path, target)
    known = folder / "store" / LEFT_OUT
    if not known.exists() and (whole / "store" / LEFT_OUT).exists():
        shutil.move(whole / "store" / LEFT_OUT, known)
    for path in sorted(whole.iterdir()):  # tables, figures, the config: those of a run that is here stay
        if path.name != "store" and not (folder / path.name).exists():
            shutil.move(path, folder / path.name)
