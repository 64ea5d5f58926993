"""`sgtr bundle`: a run in one file, to be read, kept, or gone on with on another machine."""

from __future__ import annotations

import importlib.metadata
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from sgtr_eval.others import load_other
from sgtr_jax import __version__
from sgtr_jax.config import is_path, names_file
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.left_out import LEFT_OUT
from sgtr_jax.experiment.mirror import REPORT_FILES
from sgtr_jax.experiment.run_lock import run_lock
from sgtr_jax.experiment.spending import LEDGER
from sgtr_jax.files import check_apart, check_file, write_bytes, write_json, write_text
from sgtr_jax.fingerprint import file_digest
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.keys import keys_in, own_keys
from sgtr_jax.report.run_file import ArtifactEntry
from sgtr_jax.report.tables import read_experiment
from sgtr_jax.sealed import RECORD, damage, recorded_files, write_sealed

FORMAT = 1
FOLDER = "bundle"  # in the run's folder: the config, the files it names, versions, and what the bundle is
FILES = "files"  # in it, those that the config names
CONFIG, MANIFEST, VERSIONS = "config.json", "bundle.json", "versions.txt"
_WEIGHTS = (".safetensors",)
_LONGEST_PATH = 1024
_SHOWN = 10


def write_bundle(run: Path, out: Path, adapters: bool, no_keys: bool = False) -> None:
    """Write a run as a .tar.gz: config, recipes, versions, tables, figures, logs; weights of adapters if asked for.

    `no_keys` says that what looks like a key is none; values of this environment's keys are refused all the same.
    Raises InputError for a run that is worked on, is damaged, or would take a key along.
    """
    if not out.name.endswith((".tar.gz", ".tgz")):
        raise InputError(f"--out {out}: expected a name that ends with .tar.gz")
    experiment = read_experiment(run)
    check_file(out, [str(run / "experiment.json")])
    check_apart(out, [run / "store"])
    name = experiment["config"]["name"]
    with run_lock(run), tempfile.TemporaryDirectory() as made:
        members, left_out = _artifacts(run, experiment.get("artifacts", []), adapters)
        tables = [run / one for one in (*REPORT_FILES, LEDGER)]
        tables += [path for folder in ("figures", "judges") for path in sorted((run / folder).rglob("*"))]
        members |= {path.relative_to(run).as_posix(): path for path in tables if path.is_file()}
        beside = Path(made)
        config, files = _moved(cast(JsonObject, experiment["config"]), beside)
        write_json(beside / CONFIG, config)
        write_text(beside / VERSIONS, _versions())
        contents = {one: file_digest(beside / one) for one in sorted([CONFIG, VERSIONS, *files])}
        said = {"format": FORMAT, "name": name, "sgtr_jax": __version__, "files": contents, "adapters": adapters}
        write_sealed(beside / MANIFEST, said)
        members |= {f"{FOLDER}/{one}": beside / one for one in (*contents, MANIFEST)}
        if left_out:
            write_json(beside / LEFT_OUT, left_out)
            members[f"store/{LEFT_OUT}"] = beside / LEFT_OUT
        _check_no_keys(members, no_keys)
        _pack(members, out, name)
    size = out.stat().st_size / 1e6
    text = f"{out}: {len(members)} files, {size:.1f} MB"
    if left_out:
        text += f"; weights of {len(left_out)} adapters are not in it (--adapters takes them along)"
    print(f"{text}. On another machine: sgtr run {out.name}")


def _artifacts(
    run: Path, entries: Sequence[ArtifactEntry], adapters: bool
) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """The files of all artifacts that are there, by their names in the run, and those left out, by artifact."""
    members: dict[str, Path] = {}
    left_out: dict[str, list[str]] = {}
    absent = 0
    for entry in entries:
        folder = run / "store" / entry["artifact"]
        if not folder.is_dir():
            absent += 1
            continue
        names = list(recorded_files(folder))
        weights = [name for name in names if name.endswith(_WEIGHTS)]
        without = [] if adapters else weights
        looked_at = [name for name in names if (folder / name).is_file() or name not in weights or adapters]
        if found := damage(folder, whole=True, names=looked_at):
            raise InputError(f"{folder}: damaged: {'; '.join(found)}. `sgtr run` sets it aside and makes it again")
        if without:
            left_out[folder.name] = without
        kept = [name for name in (*names, RECORD) if name not in without]
        members |= {f"store/{folder.name}/{name}": folder / name for name in kept}
    if absent:
        print(f"{run}: {absent} of {len(entries)} artifacts are not made yet, and not in the bundle", file=sys.stderr)
    return members, left_out


def _moved(config: JsonObject, own: Path) -> tuple[JsonObject, list[str]]:
    """The config with every file it names beside it, and the names of these files."""
    files: dict[Path, str] = {}
    folders: dict[Path, int] = {}

    def taken(path: Path, folder: Path) -> str:
        """A file in a folder of the bundle, under its own name: what imports it finds it."""
        target = f"{FILES}/{folders.setdefault(folder, len(folders))}/{path.relative_to(folder).as_posix()}"
        if path not in files:
            files[path] = target
            write_bytes(own / target, path.read_bytes())
        return target

    def moved(value: Json, at: tuple[str, ...]) -> Json:
        if isinstance(value, dict):
            return {name: moved(one, (*at, name)) for name, one in value.items()}
        if isinstance(value, list):
            return [moved(one, at) for one in value]
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_PATH or "\n" in value:
            return value
        name, mark, function = value.rpartition("@") if ".py@" in value else (value, "", "")
        path = Path(name)
        if path.is_file() and names_file(name):
            real = path.resolve()
            for beside in load_other(value).files.values() if mark else ():
                taken(beside, real.parent)
            return f"{taken(real, real.parent)}{mark}{function}"
        if is_path(ExperimentConfig, at) or mark:
            raise InputError(
                f"{'.'.join(at)}: {name} is not there, and belongs into the bundle; call this from the folder in which "
                "the run was started"
            )
        if "/" in name and path.is_dir():
            print(
                f"{'.'.join(at)}: {value} is a folder of this machine and not in the bundle; on another one say "
                f"{'.'.join(at)}=WHERE", file=sys.stderr,
            )  # fmt: skip
        return value

    result = moved({**config, "out": None, "mirror": None}, ())
    return cast(JsonObject, result), list(files.values())


def _versions() -> str:
    """All packages here as pip's constraints."""
    found = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))


def _check_no_keys(members: Mapping[str, Path], no_keys: bool) -> None:
    own = own_keys()
    found: dict[str, None] = {}
    for name, path in members.items():
        if path.suffix in (*_WEIGHTS, ".png"):
            continue
        for what in keys_in(path, own):
            if not (no_keys and what.startswith("what looks")):
                found[f"{name}: holds {what}"] = None
    if found:
        lines = list(found)
        more = f"\n  and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise InputError(
            "a bundle is for others, and takes no key along:\n  " + "\n  ".join(lines[:_SHOWN]) + more
            + "\nIf what looks like a key is none (a text that a model wrote), say --no-keys"
        )  # fmt: skip


def _pack(members: Mapping[str, Path], out: Path, name: str) -> None:
    """Write the archive, without names of people and groups."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mode = 0o644
        return info

    partial = out.with_name(f".{out.name}.partial")
    try:
        with tarfile.open(partial, "w:gz") as archive:
            for inside, path in sorted(members.items()):
                archive.add(path, f"{name}/{inside}", recursive=False, filter=plain)
        partial.replace(out)
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
