"""`sgtr train`: an adapter, or a small model."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import MODEL, Commands, add_adapters, add_overrides, as_path, say
from sgtr_jax.errors import RunError


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "train",
        "Finetune a LoRA adapter (or, with mode=full, a small model).",
        [
            "sgtr train --model nano --data rows.jsonl --out runs/x lr=1e-4 lora.rank=16",
            "sgtr train --model Qwen/Qwen2.5-7B-Instruct --adapter runs/x/adapter --data more.jsonl --out runs/y",
            "sgtr train --model nano --data a.jsonl --data b.jsonl --out runs/both seeds=[0,1,2]",
        ],
        run,
    )
    add_overrides(parser, "settings, for example lr=1e-4; `sgtr settings train` lists them", "train")
    parser.add_argument("--model", required=True, help=MODEL)
    add_adapters(parser, "frozen adapter to train on top of; repeatable")
    parser.add_argument(
        "--data",
        required=True,
        action="append",
        help="JSONL of chat records, or the folder or address (gs://) of a published set; repeatable, each its own run",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=as_path,
        metavar="DIR",
        help="folder for adapter/ and metrics.jsonl; with several data sets or seeds, of a folder DATA-sSEED for each",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.finetune.config import TrainCommand

    command = build_config(TrainCommand, apply_overrides({}, args.overrides), "command line")
    from sgtr_jax.data.publish import read_records

    records = {path: read_records(path, command.format) for path in args.data}
    other = command.interleave
    mixed = read_records(other.path, other.format) if other is not None else ()
    kl = command.kl
    others = {"kl": read_records(kl.data, kl.format)} if kl is not None and kl.data is not None else {}
    from sgtr_jax.distributed.launch import start_jax

    start_jax()
    from sgtr_jax.finetune.local import finetune_all

    jobs = command.jobs(args.model, tuple(args.adapter), records, mixed, args.out, others)
    failures = []
    for result in finetune_all(jobs):
        if result.failure is not None:
            failures.append(result.failure)
            continue
        job, report = result.job, result.tokenized
        what = "cut" if job.config.overlong == "cut" else "dropped"
        note = f", {report.too_long} longer than {report.max_length} tokens {what}" if report.too_long else ""
        say(f"{job.out}: trained on {report.examples} of {report.records} records{note}")
    if failures:
        raise RunError("\n".join(failures))
    return 0
