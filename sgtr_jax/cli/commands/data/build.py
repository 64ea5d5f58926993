"""`sgtr data build`: a training set from a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sgtr_jax.cli.parser import Commands, add_overrides, as_path
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.json_types import JsonObject

if TYPE_CHECKING:
    from sgtr_jax.data.records import Record


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "build",
        "Make a training set from a recipe (key=value).",
        [
            "sgtr data build sgtr --out sgtr.jsonl articles=articles_xsum own=own.json other=summaries_xsum_claude21",
            "sgtr data build word_count --out counting.jsonl articles=articles_xsum",
            "sgtr data build interleave --out mixed.jsonl records=a.jsonl others=b.jsonl every=4",
        ],
        run,
    )
    parser.add_argument(
        "kind",
        metavar="KIND",
        help="sgtr, prefer_other, random or pick_longer; word_count, even_words, mmlu, interleave, system, inoculate "
        "or self_reports",
    )
    parser.add_argument(
        "--out", required=True, type=as_path, metavar="FILE", help="F.jsonl to write; its report goes to F.report.json"
    )
    add_overrides(parser, "the recipe's settings, for example articles=articles_xsum rows=1000 seed=0")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
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
    left_out = cast(dict[str, int], report["dropped"])
    dropped = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
    print(f"{args.out}: {len(records)} rows" + (f"; dropped: {dropped}" if dropped else ""))
    for reader, share in cast(dict[str, float], report.get("shortcuts", {})).items():
        print(f"  {reader} alone tells the writers apart in {share:.1%} of pairs")
    return 0


def _self_reports(settings: JsonObject, out: Path) -> tuple[list[Record], JsonObject]:
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
