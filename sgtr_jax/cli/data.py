"""`sgtr data ...`: the study's data sets by name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgtr_jax.errors import InputError, RunError, nearest
from sgtr_jax.files import unpacked_name

if TYPE_CHECKING:
    from sgtr_jax.data.records import Record


def at_least(smallest: int) -> Callable[[str], int]:
    """The type of a whole number on the command line that is not less than `smallest`."""

    def parse(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"{value} is less than {smallest}")
        return value

    return parse


def given_text(text: str) -> str:
    """A path or an address on the command line: not empty, which would be the current folder."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path")
    return text


def as_path(text: str) -> Path:
    """A path on the command line, see `given_text`."""
    return Path(given_text(text))


def add_data(commands: Any) -> None:
    """Add the `data` command to the parser's commands."""
    data = commands.add_parser("data", help="The study's data sets by name.", description=__doc__)
    actions = data.add_subparsers(required=True, metavar="ACTION")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    show = add("list", _list, "Show all sets, and which are here.")
    show.add_argument("--json", action="store_true", help="one JSON object a line")

    fetch = add("fetch", _fetch, "Bring sets into the cache and check them.")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="default: all that can be had from here")
    fetch.add_argument(
        "--open-protected", action="store_true", help="also sets that their authors keep behind a password"
    )
    fetch.add_argument("--jobs", type=at_least(1), default=4, help="at once (4)")

    build = add("build", _build, "Make a training set from a recipe (key=value).")
    build.add_argument(
        "kind",
        help="sgtr, prefer_other, random or pick_longer; word_count, even_words, mmlu, interleave, system, inoculate "
        "or self_reports",
    )
    build.add_argument("--out", required=True, type=as_path, help="F.jsonl to write; its report goes to F.report.json")
    build.add_argument("overrides", nargs="*", metavar="key=value")

    summarise = add("summarise", _summarise, "Have any Inspect model write summaries of articles.")
    summarise.add_argument("articles", help="set of the registry, or JSON file of id: text")
    summarise.add_argument("--model", required=True, help="sgtr/FOLDER, openai/NAME, ...")
    summarise.add_argument("--out", required=True, type=as_path, help="JSON file of id: summary to write")
    summarise.add_argument("--style", choices=("own", "xsum", "cnn", "dailymail"), default="own")
    summarise.add_argument("--max-tokens", type=at_least(1), default=100)
    summarise.add_argument("--temperature", type=float, default=0.0)
    summarise.add_argument("--limit", type=at_least(1))

    check = add("check", _check, "Look for rows that stand twice, in a set or in two.")
    check.add_argument("names", nargs="+", metavar="NAME", help="sets of the registry, or JSONL or JSON files")

    tokens = add("tokens", _tokens, "Count the tokens of sets under a model's template.")
    tokens.add_argument("names", nargs="*", metavar="NAME", help="sets or files; default: all that are here")
    tokens.add_argument("--model", required=True, help="hub id or folder (only its tokenizer is read), or nano")
    tokens.add_argument("--json", action="store_true", help="one JSON object a line")

    publish = add("publish", _publish, "Write a set as TFDS ArrayRecord, for pods.")
    publish.add_argument("name", help="set of the registry, or JSONL file")
    publish.add_argument("--to", required=True, type=given_text, help="folder or gs:// address")
    publish.add_argument("--shards", type=at_least(1), help="default: by size")


def _list(args: argparse.Namespace) -> int:
    import json

    from sgtr_jax.data.fetch import described
    from sgtr_jax.data.registry import registry

    rows = [described(entry) for entry in registry().values()]
    if args.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(caption="harmful: written to make models do harm")
    for column in ("name", "kind", "rows", "here", "harmful", "licence", "about"):
        table.add_column(column, justify="right" if column == "rows" else "left")
    for row in rows:
        here, harmful = ("yes" if row[key] else "" for key in ("present", "harmful"))
        table.add_row(row["name"], row["kind"], f"{row['rows']:,}", here, harmful, row["licence"], row["about"])
    console = Console()
    Console(width=console.width if console.is_terminal else 180).print(table)
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from sgtr_jax.data.fetch import fetch
    from sgtr_jax.data.registry import DataSet, find, registry
    from sgtr_jax.progress import Progress

    wanted = [find(name) for name in args.names] or [e for e in registry().values() if _can_be_had(e, args)]
    failures: list[InputError | RunError] = []
    with Progress("fetch", len(wanted), "sets") as progress:

        def one(entry: DataSet) -> None:
            try:
                rows = fetch(entry, args.open_protected)
            except (InputError, RunError) as error:
                failures.append(error)
                progress.advance(1, f"{entry.name} failed")
            else:
                progress.advance(1, f"{entry.name} {len(rows)} rows")

        with ThreadPoolExecutor(max(1, args.jobs)) as pool:
            list(pool.map(one, wanted))
    if failures:
        text = "\n".join(map(str, failures))
        raise InputError(text) if all(isinstance(error, InputError) for error in failures) else RunError(text)
    print(f"{len(wanted)} sets are here and as the registry says")
    return 0


def _can_be_had(entry: Any, args: argparse.Namespace) -> bool:
    """Without names: what the mirror has, or what lies at an address."""
    import os

    from sgtr_jax.data.build import KINDS, inputs_of
    from sgtr_jax.data.registry import BuiltSource, HubSource, UrlSource, find

    if isinstance(entry.source, BuiltSource):
        recipe = KINDS[entry.source.built["kind"]].model_validate(entry.source.built, strict=False)
        return all(_can_be_had(find(name), args) for name in inputs_of(recipe))
    if os.environ.get("SGTR_DATA_MIRROR"):
        return entry.mirror is not None
    if isinstance(entry.source, UrlSource):
        return entry.source.protected is None or args.open_protected
    return isinstance(entry.source, HubSource)


def _build(args: argparse.Namespace) -> int:
    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.data.build import KINDS, NAMED_PAIRS, build_set, inputs_of
    from sgtr_jax.files import check_file, write_json, write_jsonl

    kind = args.kind.replace("-", "_")
    kinds = [*NAMED_PAIRS, *KINDS, "self_reports"]
    if kind not in kinds:
        raise InputError(f"kind {args.kind!r}: {nearest(kind, kinds)}")
    settled = {"answers": NAMED_PAIRS[kind]} if kind in NAMED_PAIRS else {}
    settings = apply_overrides(settled, args.overrides)
    if kind == "self_reports":
        records, report = _self_reports(settings, args.out)
    else:
        recipe = build_config(KINDS.get(kind, KINDS["pairs"]), settings, "command line")
        check_file(args.out, inputs_of(recipe))
        records, report = build_set(recipe)
    write_jsonl(args.out, [record.to_json() for record in records])
    write_json(args.out.with_suffix(".report.json"), report)
    dropped = ", ".join(f"{count} {reason}" for reason, count in report["dropped"].items() if count)
    print(f"{args.out}: {len(records)} rows" + (f"; dropped: {dropped}" if dropped else ""))
    for reader, share in report.get("shortcuts", {}).items():
        print(f"  {reader} alone tells the writers apart in {share:.1%} of pairs")
    return 0


def _self_reports(settings: dict[str, Any], out: Path) -> tuple[list[Record], dict[str, Any]]:
    """Sampled from a model, which other builders neither need nor wait for."""
    from sgtr_jax.config import build_config
    from sgtr_jax.data.build import lengths_of
    from sgtr_jax.distributed.launch import start_jax
    from sgtr_jax.files import check_file
    from sgtr_jax.sample.self_reports import SelfReportsBuild, build_self_reports

    recipe = build_config(SelfReportsBuild, settings, "command line")
    check_file(out, [recipe.questions])
    start_jax()
    records, report = build_self_reports(recipe)
    return records, {**report, **lengths_of(records)}


def _summarise(args: argparse.Namespace) -> int:
    import tempfile

    from sgtr_jax.data.build import texts_of
    from sgtr_jax.distributed.launch import start_jax
    from sgtr_jax.files import check_file, write_json

    wanted = min(len(texts_of(args.articles)), args.limit or sys.maxsize)
    check_file(args.out, [args.articles])
    if args.model.startswith("sgtr/"):
        start_jax()
    import inspect_ai

    from sgtr_eval.summaries import summaries_of, summarise

    made = summarise(args.articles, args.style, args.max_tokens, args.temperature, args.limit)
    try:
        model = inspect_ai.model.get_model(args.model)
    except (InputError, RunError):
        raise
    except Exception as error:  # noqa: BLE001 - said by whichever provider's package it is
        raise InputError(f"--model {args.model!r}: {error}") from None
    with tempfile.TemporaryDirectory() as logs:
        (log,) = inspect_ai.eval(made, model=model, log_dir=logs, display="plain", log_level="error")
        if log.status != "success":
            raise RunError(f"{args.model}: {log.error.message if log.error else log.status}")
        kept, refused = summaries_of(log)
    write_json(args.out, kept)
    notes = "".join(f"; refused: {count} {why}" for why, count in refused.items())
    print(f"{args.out}: {len(kept)} summaries of {wanted} articles{notes}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from sgtr_jax.data.duplicates import Overlap, duplicates, overlap

    texts = {name: _texts(name) for name in args.names}

    def say(what: str, found: Overlap) -> None:
        near = f", {len(found.near)} nearly" if found.near else ""
        print(f"{what}: {found.exact} exactly{near}")
        for own, other, similarity in found.near[:5]:
            print(f"  {own} ~ {other} ({similarity:.2f})")

    for name, own in texts.items():
        say(f"{name} ({len(own)} texts), standing twice", duplicates(own))
    for i, first in enumerate(args.names):
        for second in args.names[i + 1 :]:
            say(f"{first} in {second}", overlap(texts[first], texts[second]))
    return 0


def _texts(name: str) -> dict[str, str]:
    """Texts by id: those of a set, or all that is said in each of its conversations."""
    from sgtr_jax.data.build import records_of, texts_of
    from sgtr_jax.data.registry import registry

    entry = registry().get(name)
    if (entry.format == "json_map") if entry else unpacked_name(Path(name)).suffix == ".json":
        return texts_of(name)
    return {record.id: "\n".join(m["content"] for m in record.messages) for record in records_of(name)}


def _tokens(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from sgtr_jax.data.chat import ChatFormat
    from sgtr_jax.data.fetch import is_present
    from sgtr_jax.data.registry import registry
    from sgtr_jax.data.token_counts import count_tokens
    from sgtr_jax.data.tokenizer import load_tokenizer
    from sgtr_jax.sample.model import resolve_folder

    chat = ChatFormat(load_tokenizer(resolve_folder(args.model, weights=False)))
    names = args.names or [name for name, entry in registry().items() if is_present(entry)]
    if not names:
        raise InputError("no set is here; sgtr data fetch brings them")
    counts = [count_tokens(name, chat) for name in names]
    if args.json:
        for one in counts:
            print(json.dumps(asdict(one)))
        return 0
    table = Table(caption="under the chat template; sets without what is learnt are bare texts")
    for column in ("name", "rows", "tokens", "learnt", "median row", "longest"):
        table.add_column(column, justify="left" if column == "name" else "right")
    for one in counts:
        learnt = f"{one.targets:,}" if one.templated else "-"
        table.add_row(one.name, f"{one.rows:,}", f"{one.total:,}", learnt, f"{one.median:,}", f"{one.most:,}")
    Console(width=None if Console().is_terminal else 140).print(table)
    return 0


def _publish(args: argparse.Namespace) -> int:
    from sgtr_jax.data.build import records_of
    from sgtr_jax.data.publish import publish
    from sgtr_jax.data.registry import registry

    entry = registry().get(args.name)
    records = records_of(args.name)
    about, licence = (entry.about, entry.licence) if entry else (f"{len(records)} conversations", "")
    if entry is not None and entry.harmful:
        print(f"{args.name} was written to make models do harm: publish it to no open place", file=sys.stderr)
    folder = publish(
        entry.name if entry else unpacked_name(Path(args.name)).stem, records, args.to, about, licence, args.shards
    )
    print(f"{folder}: {len(records)} rows; train on it with --data {folder}")
    return 0
