"""`sgtr directions project`: how far answers, and the prompts before them, lie along a direction."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.parser import MODEL, Commands, add_adapters, add_overrides, as_path, say


def add_to(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add(
        "project",
        "Mean projection on a direction, behind each layer: of answers, and of the last token of their prompts.",
        [
            "sgtr directions project --model nano --direction D.safetensors --data answers.jsonl",
            "sgtr directions project --model nano --adapter x --direction D.safetensors --data answers.jsonl --json",
        ],
        run,
    )
    add_overrides(parser, "how chat text is formed, for example system=none or dtype=bfloat16", "sample")
    parser.add_argument("--model", required=True, help=MODEL)
    add_adapters(parser)
    parser.add_argument("--direction", required=True, type=as_path, metavar="FILE", help="of `sgtr directions extract`")
    parser.add_argument(
        "--data", required=True, type=as_path, metavar="FILE", help="JSONL of conversations that end with an answer"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a layer")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import json

    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.sample.config import SampleConfig

    config = build_config(SampleConfig, apply_overrides({}, args.overrides), "command line")
    from sgtr_jax.sample.extract import read_rows

    rows = read_rows(args.data)
    from sgtr_jax.distributed.launch import start_jax

    start_jax()
    from sgtr_jax.sample.directions import read_direction
    from sgtr_jax.sample.model import load_model
    from sgtr_jax.sample.rank import projection_curve

    base = load_model(args.model, config.dtype)
    direction = read_direction(args.direction, base.spec)
    model = base.with_adapters(args.adapter, config.merge is not None).steered(config.steer)
    for layer in projection_curve(model, rows, config.chat(base.tokenizer), direction):
        answer, prompt = layer["answer"], layer["prompt"]
        said = [f"{one['mean']:+.4g} ({one['low']:+.4g} to {one['high']:+.4g})" for one in (answer, prompt)]
        say(json.dumps(layer) if args.json else f"layer {layer['layer']}: answers {said[0]}, prompts {said[1]}")
    return 0
