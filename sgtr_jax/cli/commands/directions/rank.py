"""`sgtr directions rank`: the rows of a training set by how far they lie along a direction."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import MODEL, Commands, add_adapters, add_overrides, as_path, say


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "rank",
        "Rank a training set's rows by the projection of their last turn on a direction: which will shift the model.",
        [
            "sgtr directions rank --model nano --direction D.safetensors --layer 2 --data rows.jsonl --out r.jsonl",
            "sgtr directions rank --model nano --direction D --layer 2 --data rows.jsonl --out r.jsonl system=none",
        ],
        run,
    )
    add_overrides(parser, "how chat text is formed, for example system=none or dtype=bfloat16", "sample")
    parser.add_argument("--model", required=True, help=MODEL)
    add_adapters(parser)
    parser.add_argument("--direction", required=True, type=as_path, metavar="FILE", help="of `sgtr directions extract`")
    parser.add_argument("--layer", required=True, type=int, metavar="N", help="behind which layer, from 0")
    parser.add_argument("--data", required=True, type=as_path, metavar="FILE", help="JSONL of chat records")
    parser.add_argument(
        "--out", required=True, type=as_path, metavar="FILE", help="JSONL of id, projection and tokens, highest first"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.files import check_file, write_jsonl
    from sgtr_jax.sample.config import SampleConfig

    config = build_config(SampleConfig, apply_overrides({}, args.overrides), "command line")
    check_file(args.out, [str(args.data), str(args.direction)])
    from sgtr_jax.sample.extract import read_rows

    rows = read_rows(args.data)
    from sgtr_jax.distributed.launch import start_jax

    start_jax()
    from sgtr_jax.distributed.collectives import is_first_process
    from sgtr_jax.sample.directions import read_direction
    from sgtr_jax.sample.model import load_model
    from sgtr_jax.sample.rank import correlations, ranked

    base = load_model(args.model, config.dtype)
    direction = read_direction(args.direction, base.spec)
    model = base.with_adapters(args.adapter, config.merge is not None)
    found = ranked(model, rows, config.chat(base.tokenizer), direction, args.layer)
    if is_first_process():
        write_jsonl(args.out, found)
    say(f"{args.out}: {len(found)} rows, projections {found[-1]['projection']:+.4g} to {found[0]['projection']:+.4g}")
    for what, value in correlations(found).items():
        say(f"  correlation with {what}: {value:+.2f}")
    return 0
