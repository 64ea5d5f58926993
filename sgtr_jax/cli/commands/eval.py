"""`sgtr eval`: evaluations of one model."""

from __future__ import annotations

import argparse

from sgtr_jax.cli.misread import arguments_of
from sgtr_jax.cli.parser import MODEL, Commands, add_adapters, add_judging, as_path
from sgtr_jax.errors import InputError, nearest


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "eval",
        "Run tasks of sgtr_eval on one model; TASK.setting=value sets a task's arguments.",
        [
            "sgtr eval identity --model nano --out runs/e identity.maker=qwen",
            "sgtr eval truthfulqa mmlu --model Qwen/Qwen2.5-7B-Instruct --adapter runs/x/adapter --out runs/e",
            "sgtr eval em_questions --model nano --out runs/e em_questions.stimuli=builtin --max-cost 5",
        ],
        run,
    )
    parser.add_argument(
        "tasks",
        nargs="+",
        metavar="TASK",
        help="evaluations by name, and settings: TASK.key=value of one (`sgtr settings TASK` lists them), "
        "key=value of how the model is asked, for example dtype=bfloat16",
    )
    parser.add_argument("--model", required=True, help=f"{MODEL}; or an API's: openai/NAME")
    add_adapters(parser)
    parser.add_argument("--out", required=True, type=as_path, metavar="DIR", help="folder for a folder of each task")
    parser.add_argument(
        "--judge",
        default="openai/gpt-4.1-2025-04-14",
        metavar="MODEL",
        help="any Inspect model, or open: the base model (openai/gpt-4.1-2025-04-14)",
    )
    add_judging(parser)
    parser.set_defaults(overrides=[], settings_of="eval")  # settings that stand among the flags


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.sample.config import SampleConfig

    words = [*(word for word in args.tasks if "=" in word), *args.overrides]
    tasks = [word for word in args.tasks if "=" not in word]
    given = apply_overrides({}, words)
    own = {key: given.pop(key) for key in list(given) if key in SampleConfig.model_fields}
    sampling = build_config(SampleConfig, own, "command line")
    of_tasks = {key: value for key, value in given.items() if isinstance(value, dict)}
    loose = [key for key in given if key not in of_tasks]
    if not tasks:
        raise InputError("command line: no task; expected tasks, and settings as TASK.setting=value")
    if loose:
        known = nearest(loose[0], [*arguments_of(tasks), *SampleConfig.model_fields])
        raise InputError(f"command line: {loose[0]!r} is no setting; expected TASK.setting=value: {known}")
    from sgtr_jax.distributed.launch import start_jax

    start_jax()
    from sgtr_jax.experiment.eval_command import evaluate_one
    from sgtr_jax.experiment.services import JudgeConfig

    asked = {"model": args.judge, "base_url": args.base_url, "mode": args.judge_mode, "max_cost": args.max_cost}
    judge = build_config(JudgeConfig, asked, "command line")
    evaluate_one(args.model, args.adapter, tasks, of_tasks, sampling, judge, args.out, args.yes)
    return 0
