"""How far a run is, from what lies in its folder or at its address. Nothing is computed, and JAX is not imported."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from sgtr_jax.buckets import is_address, translate_storage_errors
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.left_out import is_left_out, left_out_of
from sgtr_jax.experiment.run_left import left_in_words
from sgtr_jax.experiment.run_lock import owner
from sgtr_jax.experiment.spending import LEDGER, requests_in
from sgtr_jax.files import decoded
from sgtr_jax.report.run_file import ArtifactEntry, CellEntry, Provenance, parse_failures
from sgtr_jax.sealed import RECORD, damage, parse_sealed

if TYPE_CHECKING:
    from etils import epath

    Place: TypeAlias = Path | epath.Path

State = Literal["done", "damaged", "failed", "to do"]
_SHOWN = 20  # artifacts that are listed
_AT_ONCE = 16  # records that are read from a bucket


@dataclass(frozen=True)
class Artifact:
    """One artifact of a run, and what is known of it."""

    kind: str
    name: str
    state: State
    why: str | None = None  # of what failed or is damaged
    started: str | None = None
    made: str | None = None
    waits_for: tuple[str, ...] = ()  # names of failed ones that it is made from, directly or not
    evaluation: str | None = None  # whose answers or numbers it holds
    dollars: float | None = None  # that judging it has cost; None where no judge was asked

    @property
    def seconds(self) -> float | None:
        """How long it took to make; None if its record does not say it."""
        if self.started is None or self.made is None:
            return None
        start, end = map(datetime.datetime.fromisoformat, (self.started, self.made))
        return (end - start).total_seconds()


@dataclass(frozen=True)
class RunState:
    """A run: its artifacts, who works on it, and what is being made."""

    run: str
    owner: str | None
    under_way: tuple[str, ...]
    artifacts: tuple[Artifact, ...]

    def having(self, *states: State) -> list[Artifact]:
        """The artifacts in some states."""
        return [one for one in self.artifacts if one.state in states]


def state_of(run: str) -> RunState:
    """Read it. Raises InputError if there is no run, and RunError if a bucket cannot be read."""
    place: Place
    if is_address(run):
        from etils import epath

        place, who = epath.Path(run), None
    else:
        place = Path(run)
        who = owner(place)
    with translate_storage_errors(run):
        planned, evaluations = _planned(place, who)
        dollars = _dollars(place)
        failed = _failed(place)
        names = [path.name for path in (place / "store").iterdir()] if (place / "store").is_dir() else []
        there = {_key(name): name for name in names if not name.startswith(".") and ".damaged-" not in name}
        present = [one for one in planned if _key(one["artifact"]) in there]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            looked = pool.map(lambda one: _present(place / "store" / there[_key(one["artifact"])], one), present)
            found = {one["artifact"]: artifact for one, artifact in zip(present, looked, strict=True)}
    artifacts: dict[str, Artifact] = {}
    for one in planned:  # what is made from others comes after them
        folder = one["artifact"]
        below = [artifacts[name] for name in one.get("inputs", []) if name in artifacts]
        waits = [
            name for source in below for name in ((source.name,) if source.state == "failed" else source.waits_for)
        ]
        why = failed.get(_key(folder))
        state: State = "to do" if why is None else "failed"
        missing = Artifact(one["kind"], one["name"], state, why, waits_for=tuple(dict.fromkeys(waits)))
        artifacts[folder] = replace(
            found.get(folder, missing), evaluation=evaluations.get(one["name"]), dollars=dollars.get(_key(folder))
        )
    return RunState(run, who, tuple(_under_way(names)) if who else (), tuple(artifacts.values()))


def show(run: str, as_json: bool) -> int:
    """Print how far a run is. Returns the exit code."""
    state = state_of(run)
    print(json.dumps(_to_json(state)) if as_json else "\n".join(_lines(state)))
    return 0


def _lines(state: RunState) -> list[str]:
    done, failed, todo = state.having("done"), state.having("failed"), state.having("to do", "damaged")
    newest = max((one.made for one in done if one.made), default=None)
    lines = [f"{state.run}: {len(done)} of {len(state.artifacts)} done, {len(failed)} failed, {len(todo)} to do"]
    if state.owner is not None:
        lines.append(f"running: {state.owner}")
        lines += [f"  makes {name}" for name in state.under_way]
    elif is_address(state.run):
        lines.append("whether something works on it is not known at an address")
    else:
        lines.append(
            "not running" + (f"; `sgtr run` makes the other {len(todo) + len(failed)}" if todo or failed else "")
        )
    if newest is not None:
        lines.append(f"last artifact: {newest}")
    lines += ["", f"{'kind':16} {'done':>5} {'of':>5}  took"]
    for kind in dict.fromkeys(one.kind for one in state.artifacts):
        made = [one for one in done if one.kind == kind]
        took = [one.seconds for one in made if one.seconds is not None]
        total = sum(one.kind == kind for one in state.artifacts)
        spent = f"{datetime.timedelta(seconds=round(sum(took)))}" if took else "not known" if made else ""
        lines.append(f"{kind:16} {len(made):5} {total:5}  {spent}")
    lines += left_in_words(
        [(one.kind, one.evaluation, one.seconds, one.dollars) for one in done],
        [(one.kind, one.evaluation) for one in (*todo, *failed)],
    )
    if failed:
        lines += ["", "failed:", *_listed(f"{one.kind} {one.name}: {one.why}" for one in failed)]
    if todo:
        lines += ["", "to do:", *_listed(_what_is_left(one) for one in todo)]
    return lines


def _what_is_left(one: Artifact) -> str:
    if one.state == "damaged":
        return f"{one.kind} {one.name}: damaged: {one.why}; it is made again"
    return f"{one.kind} {one.name}" + (f": needs {', '.join(one.waits_for)}, which failed" if one.waits_for else "")


def _listed(texts: Iterable[str]) -> list[str]:
    lines = [f"  {text}" for text in texts]
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"  and {len(lines) - _SHOWN} more (--json has all)"]


def _to_json(state: RunState) -> dict[str, object]:
    artifacts = [{**asdict(one), "seconds": one.seconds} for one in state.artifacts]
    return {"run": state.run, "owner": state.owner, "under_way": state.under_way, "artifacts": artifacts}


def _planned(place: Place, who: str | None) -> tuple[list[ArtifactEntry], dict[str, str]]:
    """What the run is to make, inputs before what is made from them, and the evaluation of artifacts by their names.

    Runs of older versions only name evaluations.
    """
    path = place / "experiment.json"
    if not path.exists():
        if who is not None:
            raise InputError(f"{place}: {who} has only begun: what is to be made is not written down yet")
        raise InputError(f"{place}: no run here (no experiment.json); `sgtr run` makes one")
    experiment = parse_sealed(decoded(_content(path), str(path)), str(path))
    cells = {cell["artifact"]: cell for cell in cast(list[CellEntry], experiment.get("cells", []))}
    names = {name: f"{cell['evaluation']}-{cell['condition']}-s{cell['seed']}" for name, cell in cells.items()}
    evaluations = {names[artifact]: cell["evaluation"] for artifact, cell in cells.items()}
    if "artifacts" in experiment:
        return cast(list[ArtifactEntry], experiment["artifacts"]), evaluations
    return [{"artifact": name, "kind": "evaluation", "name": names[name]} for name in cells], evaluations


def _dollars(place: Place) -> dict[str, float]:
    """What judging has cost by artifact, by `_key`. Raises InputError for a line that cannot be read."""
    path, found = place / LEDGER, dict[str, float]()
    for request in requests_in(_content(path), str(path)) if path.exists() else ():
        key = _key(request.artifact)
        found[key] = found.get(key, 0.0) + request.dollars
    return found


def _failed(place: Place) -> dict[str, str]:
    """Why artifacts could not be made when they were last tried, by `_key`. Raises InputError."""
    path = place / "failures.json"
    if not path.exists():
        return {}
    try:
        entries = parse_failures(decoded(_content(path), str(path)), str(path))
    except InputError as error:
        raise InputError(f"{error}. `sgtr run` sets it aside; it only told why artifacts failed earlier") from None
    return {_key(folder): entry["why"] for folder, entry in entries.items()}


def _content(path: Place) -> bytes:
    """What a file of a run holds. Raises InputError for one that cannot be read; a bucket's errors stay as they are."""
    try:
        return path.read_bytes()
    except OSError as error:
        if not isinstance(path, Path):
            raise
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def _present(folder: Place, planned: ArtifactEntry) -> Artifact:
    """An artifact that is there. Of one in a bucket only the record is looked at, which is written last."""
    kind, name = planned["kind"], planned["name"]
    wrong = damage(folder, whole=False) if isinstance(folder, Path) and (folder / RECORD).exists() else []
    if wrong and isinstance(folder, Path) and is_left_out(folder, left_out_of(folder.parent)):
        wrong = []  # it was made, and its weights are where the bundle is from
    try:
        stored = parse_sealed(decoded((folder / RECORD).read_bytes(), RECORD), RECORD) if not wrong else {}
    except FileNotFoundError:
        return Artifact(kind, name, "damaged" if isinstance(folder, Path) else "to do", f"{RECORD} is missing")
    except InputError as error:
        wrong = [str(error)]
    if wrong:
        return Artifact(kind, name, "damaged", "; ".join(wrong))
    times = cast(Provenance, stored.get("provenance", {}))
    return Artifact(kind, name, "done", started=times.get("started"), made=times.get("made"))


def _under_way(names: Sequence[str]) -> list[str]:
    """Artifacts that have a folder for what is not finished."""
    begun = [name.removeprefix(".scratch-") for name in names if name.startswith(".scratch-")]
    begun += [name.removeprefix(".tmp-").rpartition("-")[0] for name in names if name.startswith(".tmp-")]
    return sorted(dict.fromkeys(begun))


def _key(folder: str) -> str:
    """What finds an artifact by the name of its folder, see `store`."""
    return f"{folder.split('-')[0]}-{folder.rsplit('-')[-1]}"
