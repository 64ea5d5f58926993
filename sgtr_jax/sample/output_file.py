"""Sampling into a file: rows are kept as they come, and what is on disk is never sampled again."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

import jax

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import parse_json, read_text, write_jsonl
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.sample.completions import Row, make_requests, run_requests
from sgtr_jax.sample.config import SampleCommand, SamplingParams
from sgtr_jax.sample.model import Model, load_model
from sgtr_jax.sample.request import Request
from sgtr_jax.sample.steering import steered_rows
from sgtr_jax.sealed import SEAL, read_sealed, write_sealed
from sgtr_jax.weights.adapter_fingerprint import adapter_fingerprint

# What names a row: its chain, its prompt, the number of the sample, and its scale where those of a prompt differ.
RowKey = tuple[str | None, str, int] | tuple[str | None, str, int, float]
_DIGESTS = "row_digests"  # by row, in the file beside the rows


def sample_to_file(
    name: str,
    adapters: Sequence[Path],
    chains: Mapping[str, tuple[Path, ...]],
    prompts: Sequence[Record],
    samples: int,
    draws: SamplingParams,
    config: SampleCommand,
    out: Path,
) -> tuple[int, int]:
    """Sample from one chain (`adapters`) or from several named ones into a JSONL file.

    Returns how many rows it has and how many of them are new. Raises InputError before anything is sampled.
    """
    if adapters and chains:
        raise InputError("give --adapter for one chain, or --chain for each of several, not both")
    check_target(out)
    if chains and config.merge is not None:
        raise InputError("merge: bfloat16 gives each chain a base of its own; sample them one by one with --adapter")
    # An adapter that is damaged is refused before a model is loaded.
    links = {key: [adapter_fingerprint(one) for one in chains.get(key, adapters)] for key in chains or ("",)}
    base = load_model(name, config.dtype, config.mesh)
    models = {key: base.with_adapters(folders) for key, folders in chains.items()}
    alone = base.with_adapters(adapters, config.merge is not None)
    chat = config.chat(base.tokenizer)
    digests = {key: model.chain_id for key, model in models.items()} or {"": alone.chain_id}
    recipe = _recipe(base, links, config, prompts, draws, chat)
    rows = RowFile(out, recipe, named=bool(models), dosed=config.doses is not None)
    steered = steered_rows(config.steer, config.doses, base.spec)
    requests = make_requests(prompts, samples, draws, chat, list(models) or [None], steered)
    missing = [request for request in requests if not rows.has(request)]
    if missing:
        settings = {"batch_rows": config.batch_rows, "share_prefixes": config.share_prefixes}
        # The engine knows chains by their digests, which decide the draws: a chain's are the same whatever its name.
        own = list(models.values()) or [alone]
        engine = own[0].engine_for({model.chain_id: model.chain for model in own}, **settings)
        asked = [_by_digest(request, digests) for request in missing]
        run_requests(engine, asked, base.stop_ids, chat, "sample", lambda i, row: rows.add(missing[i], row))
    rows.finish(requests)
    return len(requests), len(missing)


def _by_digest(request: Request, digests: Mapping[str, str]) -> Request:
    return dataclasses.replace(request, chain=digests[request.chain or ""])


class RowFile:
    """Rows on their way to `target`, one line each as they come, in order in the end.

    While it lasts the rows are in `target`.partial behind a line that says what decides them; a row on disk is
    never sampled again. When all are there they are moved to `target`, with `target`.recipe.json beside it.
    """

    def __init__(self, target: Path, recipe: Mapping[str, Json], named: bool, dosed: bool = False) -> None:
        """`named`: rows also say which chain they are of; `dosed`: how much they are steered.

        Raises InputError for rows of other settings.
        """
        self._target = target
        self._partial = target.with_name(f"{target.name}.partial")
        self._sidecar = target.with_name(f"{target.name}.recipe.json")
        self._recipe, self._named, self._dosed = dict(recipe), named, dosed
        self._rows: dict[RowKey, Row] = {}
        if self._sidecar.exists() and target.exists():
            found = _read_sidecar(self._sidecar)
            digests = cast(dict[str, str], found.pop(_DIGESTS))
            if found == self._recipe:
                self._keep_unchanged(target, digests)
        elif self._partial.exists():
            first, *lines = read_text(self._partial).split("\n")
            try:
                stored = parse_json(first, f"{self._partial}:1")
            except InputError as error:
                raise InputError(f"{error}; delete the file to start anew") from None
            if not isinstance(stored, dict):
                raise InputError(f"{self._partial}:1: is no recipe of a sample; delete the file to start anew")
            differing = _differing(stored, self._recipe)
            if differing:
                raise InputError(
                    f"{self._partial}: holds rows of other settings ({', '.join(differing)} differ); give the same "
                    "settings to go on with them, another --out, or delete the file to start anew"
                )
            self._keep(lines)
        self._stream: IO[str] | None = None

    def _keep(self, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines):
            try:
                row = json.loads(line)
            except ValueError:
                if line and number < len(lines) - 1:
                    raise InputError(f"{self._partial}: line {number + 2} is damaged; delete the file") from None
                continue  # the last line of a killed run may be half written
            if not isinstance(row, dict) or not {"id", "sample"} <= set(row):
                raise InputError(f"{self._partial}: line {number + 2} is no row of a sample; delete the file")
            kept = cast(Row, row)
            self._rows[self._key(kept)] = kept

    def _keep_unchanged(self, target: Path, digests: Mapping[str, str]) -> None:
        """Keep the rows of a complete file that are as they were written; the others are sampled again."""
        lines = [line for line in read_text(target).split("\n") if line]
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # a line that is no row of ours
                row = json.loads(line)
                if digests.get(json.dumps(self._key(row))) == _digest(line):
                    self._rows[self._key(row)] = row
        if len(self._rows) < len(digests):
            lost = len(digests) - len(self._rows)
            print(f"{target}: {lost} rows are missing or were changed; they are sampled again", file=sys.stderr)

    def _key(self, row: Row) -> RowKey:
        plain = (row.get("chain") if self._named else None, row["id"], row["sample"])
        return (*plain, row["scale"]) if self._dosed else plain

    def key_of(self, request: Request) -> RowKey:
        """What names a request's row."""
        plain = (request.chain if self._named else None, request.prompt_id, request.sample)
        return (*plain, request.steering.scale) if self._dosed and request.steering is not None else plain

    def has(self, request: Request) -> bool:
        """Whether the row is on disk."""
        return self.key_of(request) in self._rows

    def add(self, request: Request, row: Row) -> None:
        """Write a row. Only the first process of a job writes."""
        if self._named:
            row = cast(Row, {"chain": request.chain, **row})
        if self._dosed and request.steering is not None:
            row["scale"] = request.steering.scale
        self._rows[self.key_of(request)] = row
        if jax.process_index() != 0:
            return
        try:
            if self._stream is None:
                # What was kept is written again: a half-written line must not precede new ones.
                write_jsonl(self._partial, [self._recipe, *list(self._rows.values())[:-1]])
                self._stream = self._partial.open("a", encoding="utf-8")
            self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._stream.flush()
        except OSError as error:
            raise RunError(f"{self._partial}: could not be written: {error.strerror or error}") from error

    def finish(self, requests: Sequence[Request]) -> None:
        """Move all rows, in the order of `requests`, into place."""
        if jax.process_index() != 0:
            return
        if self._stream is not None:
            self._stream.close()
        rows = [self._rows[self.key_of(request)] for request in requests]
        write_jsonl(self._target, rows)
        digests = {json.dumps(self._key(row)): _digest(json.dumps(row, ensure_ascii=False)) for row in rows}
        write_sealed(self._sidecar, {**self._recipe, _DIGESTS: digests})
        self._partial.unlink(missing_ok=True)


def check_target(out: Path) -> None:
    """Raises InputError if `out` holds anything but rows that were sampled."""
    ours = [out.with_name(f"{out.name}.{end}") for end in ("recipe.json", "partial")]
    if out.is_dir() or (out.exists() and not any(path.exists() for path in ours)):
        what = "a folder" if out.is_dir() else "a file that `sgtr sample` did not write"
        raise InputError(f"{out}: is {what}; give another --out")


def _read_sidecar(path: Path) -> JsonObject:
    try:
        return {_DIGESTS: {}, **read_sealed(path)}
    except InputError as error:
        raise InputError(f"{error}. Delete it with its rows to sample them anew, or give another --out") from None


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:16]


def _recipe(
    model: Model, chains: Mapping[str, Sequence[str]], config: SampleCommand, prompts: Sequence[Record],
    draws: SamplingParams, chat: ChatFormat,
) -> JsonObject:  # fmt: skip
    """Everything that decides a row, but for which row it is. `chains` are names and fingerprints of adapters."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(json.dumps([prompt.id, list(prompt.messages)]).encode())
    return {
        "model": model_fingerprint(model.folder)[:16],
        "dtype": str(model.params["embedding"].dtype),
        "chains": dict(chains),
        "merge": config.merge,
        **_steering(config),
        **draws.model_dump(mode="json"),
        "system": chat.system,
        "template": chat.template_kwargs,
        "prompts": digest.hexdigest(),
    }


def _steering(config: SampleCommand) -> JsonObject:
    """What rows are steered by; nothing where they are not, as in files of before."""
    found: JsonObject = {key: value for key, value in config.identity().items() if key == "steer"}
    return found if config.doses is None else {**found, "doses": list(config.doses)}


def _differing(stored: Mapping[str, Json], own: Mapping[str, Json]) -> list[str]:
    ours = {key: value for key, value in stored.items() if key not in (_DIGESTS, SEAL)}
    return sorted(key for key in {*ours, *own} if ours.get(key) != own.get(key))
