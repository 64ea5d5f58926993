"""Sampling into a file: rows are kept as they come, and what is on disk is never sampled again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from sgtr_jax.backends.sampling import Row, make_requests, run_requests
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import write_json, write_jsonl
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.model import Model, load_model
from sgtr_jax.sample.config import DrawConfig, SampleCommand
from sgtr_jax.sample.request import Request


def sample_to_file(
    name: str,
    adapters: Sequence[Path],
    chains: Mapping[str, tuple[Path, ...]],
    prompts: Sequence[Record],
    samples: int,
    draws: DrawConfig,
    config: SampleCommand,
    out: Path,
) -> tuple[int, int]:
    """Sample from one chain (`adapters`) or from several named ones into a JSONL file.

    Returns how many rows it has and how many of them are new. Raises InputError before anything is sampled.
    """
    if adapters and chains:
        raise InputError("give --adapter for one chain, or --chain for each of several, not both")
    if chains and config.merge is not None:
        raise InputError("merge: bfloat16 gives each chain a base of its own; sample them one by one with --adapter")
    base = load_model(name, config.dtype, config.mesh)
    models = {key: base.with_adapters(folders) for key, folders in chains.items()}
    alone = base.with_adapters(adapters, config.merge is not None)
    chat = config.chat(base.tokenizer)
    digests = {key: model.chain_id for key, model in models.items()} or {"": alone.chain_id}
    rows = RowFile(out, _recipe(base, digests, prompts, draws, chat), named=bool(models))
    requests = make_requests(prompts, samples, draws, chat, list(models) or [None])
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

    def __init__(self, target: Path, recipe: Mapping[str, Any], named: bool) -> None:
        """`named`: rows also say which chain they are of. Raises InputError for rows of other settings."""
        self._target = target
        self._partial = target.with_name(f"{target.name}.partial")
        self._sidecar = target.with_name(f"{target.name}.recipe.json")
        self._recipe, self._named = dict(recipe), named
        self._rows: dict[tuple[Any, ...], Row] = {}
        if self._sidecar.exists() and target.exists():
            if json.loads(self._sidecar.read_text()) == self._recipe:
                self._keep(target.read_text(encoding="utf-8").split("\n"))
        elif self._partial.exists():
            first, *lines = self._partial.read_text(encoding="utf-8").split("\n")
            differing = _differing(json.loads(first or "{}"), self._recipe)
            if differing:
                raise InputError(
                    f"{self._partial}: holds rows of other settings ({', '.join(differing)} differ); give the same "
                    "settings to go on with them, another --out, or delete the file to start anew"
                )
            self._keep(lines)
        self._stream: Any = None

    def _keep(self, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines):
            try:
                row = json.loads(line)
            except ValueError:
                if line and number < len(lines) - 1:
                    raise InputError(f"{self._partial}: line {number + 2} is damaged; delete the file") from None
                continue  # the last line of a killed run may be half written
            self._rows[self._key(row)] = row

    def _key(self, row: Row) -> tuple[Any, ...]:
        return (row.get("chain") if self._named else None, row["id"], row["sample"])

    def key_of(self, request: Request) -> tuple[Any, ...]:
        """What names a request's row."""
        return (request.chain if self._named else None, request.prompt_id, request.sample)

    def has(self, request: Request) -> bool:
        """Whether the row is on disk."""
        return self.key_of(request) in self._rows

    def add(self, request: Request, row: Row) -> None:
        """Write a row. Only the first process of a job writes."""
        if self._named:
            row = {"chain": request.chain, **row}
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
        write_jsonl(self._target, [self._rows[self.key_of(request)] for request in requests])
        write_json(self._sidecar, self._recipe)
        self._partial.unlink(missing_ok=True)


def _recipe(
    model: Model, chains: Mapping[str, str], prompts: Sequence[Record], draws: DrawConfig, chat: ChatFormat
) -> dict[str, Any]:
    """Everything that decides a row, but for which row it is. `chains` are names and digests of their adapters."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(json.dumps([prompt.id, list(prompt.messages)]).encode())
    return {
        "model": model_fingerprint(model.folder)[:16],
        "dtype": str(model.params["embedding"].dtype),
        "chains": dict(chains),
        **draws.model_dump(mode="json"),
        "system": chat.system,
        "template": chat.template_kwargs,
        "prompts": digest.hexdigest(),
    }


def _differing(stored: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*stored, *own} if stored.get(key) != own.get(key))
