"""The `sgtr` command. Heavy imports happen inside the commands, so that `--help` is quick."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dotenv import find_dotenv, load_dotenv

from sgtr_jax import __version__
from sgtr_jax.cli.data import add_data, as_path, at_least, given_text
from sgtr_jax.distributed.launch import exit_if_peers_hang
from sgtr_jax.distributed.supervise import is_wanted, supervise
from sgtr_jax.errors import InputError, RunError, said_by_system

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 bad input, 1 failure."""
    args = _parse(argv)
    load_dotenv(find_dotenv(usecwd=True))  # keys; what the environment has wins
    try:
        with exit_if_peers_hang():
            code: int = args.command(args)
    except (InputError, RunError) as error:
        return _said(error)
    except BrokenPipeError:  # who read what is printed has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _said(said_by_system(error))
    except KeyboardInterrupt:
        print("sgtr: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return code


def _said(error: InputError | RunError) -> int:
    print(f"sgtr: {'error' if isinstance(error, InputError) else 'failed'}: {error}", file=sys.stderr)
    return error.exit_code


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse; `key=value` may stand anywhere among the flags, which argparse alone does not allow."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    settings = [word for word in rest if "=" in word and not word.startswith("-")]
    if len(settings) < len(rest) or (settings and "overrides" not in args):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if settings:
        args.overrides = [*args.overrides, *settings]
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sgtr", description="Self-recognition finetuning against emergent misalignment, in JAX."
    )
    parser.add_argument("--version", action="version", version=f"sgtr-jax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str, overrides: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        if overrides:
            sub.add_argument("overrides", nargs="*", metavar="key=value", help="settings, for example lr=1e-4")
        return sub

    model_help = "hub id, local folder (Hugging Face or converted), address (gs://) of a converted one, or nano"

    run = add("run", _run, "Run a whole experiment; what is already done is not done again.")
    run.add_argument("config", type=as_path)
    run.add_argument("overrides", nargs="*", metavar="key=value")
    run.add_argument("--list", action="store_true", help="print the graph and what is done, then stop")
    run.add_argument("--why", metavar="NODE", help="print why a node is to be made, then stop; --list names the nodes")
    run.add_argument("--no-judge", action="store_true", help="sample the answers that a judge is to read; see judge")

    run.add_argument("--yes", action="store_true", help="do not ask what an API model or a judge may cost")

    plan = add("plan", _plan, "Say what a run would do, whether it fits a TPU slice and what it costs.")
    plan.add_argument("config", type=as_path)
    plan.add_argument("overrides", nargs="*", metavar="key=value")
    plan.add_argument("--topology", help="a TPU slice, or several: v5e-16,v6e-8 (compiled for with libtpu)")
    plan.add_argument("--all-meshes", action="store_true", help="compile for every mesh of the slice")
    plan.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    judge = add("judge", _judge, "Judge the answers of a run, by its own judge or another one; nothing is sampled.")
    judge.add_argument("run_dir", type=as_path)
    judge.add_argument("--judge", help="any Inspect model; default: the config's")
    judge.add_argument("--base-url", help="of an API that speaks OpenAI's language")
    _judge_flags(judge)

    jobs = add("jobs", _jobs, "List the finetuning jobs of a run whose model is behind an API, or change them.")
    jobs.add_argument("run_dir", type=as_path)
    change = jobs.add_mutually_exclusive_group()
    for what in ("cancel", "pause", "resume"):
        change.add_argument(f"--{what}", metavar="NAME", help=f"{what} a job, or all")

    train = add("train", _train, "Finetune a LoRA adapter (or, with mode=full, a small model).", overrides=True)
    train.add_argument("--model", required=True, help=model_help)
    train.add_argument(
        "--adapter",
        action="append",
        default=[],
        type=as_path,
        help="frozen adapter to train on top of; repeatable",
    )
    train.add_argument(
        "--data",
        required=True,
        action="append",
        help="JSONL of chat records, or the folder or address (gs://) of a published set; repeatable, each its own run",
    )
    train.add_argument(
        "--out",
        required=True,
        type=as_path,
        help="folder for adapter/ and metrics.jsonl; with several data sets or seeds, of a folder DATA-sSEED for each",
    )

    sample = add("sample", _sample, "Sample completions for prompts.", overrides=True)
    sample.add_argument("--model", required=True, help=model_help)
    sample.add_argument("--adapter", action="append", default=[], type=as_path, help="adapter of the chain; repeatable")
    sample.add_argument(
        "--chain",
        action="append",
        default=[],
        type=_named_chain,
        metavar="NAME=DIR[,DIR]",
        help="an adapter chain of several to sample from in one batch; NAME= alone is the base model; repeatable",
    )
    sample.add_argument("--prompts", required=True, type=as_path, help='JSONL of {"id", "messages"}')
    sample.add_argument("--out", required=True, type=as_path, help="JSONL to write")
    sample.add_argument("--n", type=at_least(1), default=1, help="samples per prompt")
    sample.add_argument("--max-tokens", type=at_least(1), default=256)
    sample.add_argument("--temperature", type=_temperature, default=1.0, help="0 is greedy")
    sample.add_argument("--seed", type=_seed, default=0)

    evaluate = add("eval", _eval, "Run tasks of sgtr_eval on one model; TASK.setting=value sets a task's arguments.")
    evaluate.add_argument("tasks", nargs="+", metavar="TASK")
    evaluate.add_argument("--model", required=True, help=model_help)
    evaluate.add_argument(
        "--adapter", action="append", default=[], type=as_path, help="adapter of the chain; repeatable"
    )
    evaluate.add_argument("--out", required=True, type=as_path, help="folder for a folder of each task")
    evaluate.add_argument(
        "--judge", default="openai/gpt-4.1-2025-04-14", help="any Inspect model, or open: the base model"
    )
    evaluate.add_argument("--base-url", help="of an API that speaks OpenAI's language")
    _judge_flags(evaluate)
    evaluate.set_defaults(overrides=[])  # settings that stand among the flags

    convert = add("convert", _convert, "Convert Hugging Face weights to Flax parameters (Orbax).")
    convert.add_argument("--model", required=True, help=model_help)
    convert.add_argument("--out", required=True, type=given_text, help="folder, or address (gs://BUCKET/FOLDER)")
    convert.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: as stored")

    export = add("export", _export, "Write a model or adapters as Hugging Face / PEFT safetensors.")
    export.add_argument("--model", help=model_help)
    export.add_argument("--run", type=as_path, help="a run, whose model and adapters are meant; with --condition")
    export.add_argument("--condition", help="of the run")
    export.add_argument("--seed", type=_seed, default=0, help="of the condition (0)")
    export.add_argument("--push", metavar="OWNER/NAME", help="upload it to the hub, private, after a question")
    export.add_argument("--public", action="store_true", help="with --push: for everybody to see")
    export.add_argument("--yes", action="store_true", help="with --push: do not ask")
    export.add_argument("--adapter", action="append", default=[], type=as_path, help="adapter of the chain; repeatable")
    export.add_argument("--out", required=True, type=as_path)
    export.add_argument("--merge", action="store_true", help="add the adapters into the base weights")
    export.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: as stored")

    add_data(commands)
    report = add("report", _report, "Make the tables, figures and page of a run again, or of several runs together.")
    report.add_argument("run_dir", type=as_path, nargs="+")
    report.add_argument("--out", type=as_path, help="folder to write to; needed for several runs")

    check = add("check", _check, "Read every file of a run, or of an eval's folder, and say what is damaged.")
    check.add_argument("run_dir", type=as_path)

    doctor = add("doctor", _doctor, "Check this machine: devices, versions, memory, disk, keys, hub, bucket.")
    doctor.add_argument("--bucket", help="gs://NAME to try writing to")

    clean = add("clean", _clean, "List what no config of a run names any more; with --yes remove it.")
    clean.add_argument("run_dir", type=as_path)
    clean.add_argument("configs", type=as_path, nargs="*", help="other configs of the run whose artifacts are kept too")
    clean.add_argument("--yes", action="store_true", help="remove")
    return parser


def _judge_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--judge-mode",
        choices=("logprobs", "text", "published"),
        help="how a score is read; by default from log-probabilities, and from the words where there are none",
    )
    parser.add_argument("--max-cost", type=float, help="dollars that the judge may cost, for all tasks together")
    parser.add_argument("--yes", action="store_true", help="go on though the budget is not expected to do")


def _seed(text: str) -> int:
    value = at_least(0)(text)
    if value >= 2**31:
        raise argparse.ArgumentTypeError(f"{value} is not below 2**31, and JAX would drop its first bits")
    return value


def _named_chain(text: str) -> tuple[str, tuple[Path, ...]]:
    name, equals, folders = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR[,DIR]")
    return name, tuple(Path(folder) for folder in folders.split(",") if folder)


def _temperature(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or more")
    return value


def _say(text: str) -> None:
    """Print once, not once per process of a job."""
    import jax

    if jax.process_index() == 0:
        print(text)


def _start_jax() -> None:
    from sgtr_jax.distributed.launch import start_jax

    start_jax()


def _run(args: argparse.Namespace) -> int:
    from sgtr_jax.experiment.status import explain, list_graph

    if args.list:
        return list_graph(args.config, args.overrides)
    if args.why:
        return explain(args.config, args.overrides, args.why)
    _start_jax()
    from sgtr_jax.experiment.run import run_experiment

    return run_experiment(args.config, args.overrides, judge=not args.no_judge, assume_yes=args.yes)


def _plan(args: argparse.Namespace) -> int:
    from sgtr_jax.experiment.plan_command import plan

    return plan(args.config, args.overrides, args.topology, args.all_meshes, args.json)


def _judge(args: argparse.Namespace) -> int:
    from sgtr_jax.experiment.run import judge_run

    _start_jax()
    given = {"base_url": args.base_url, "mode": args.judge_mode, "max_cost": args.max_cost}
    return judge_run(args.run_dir, args.judge, given, args.yes)


def _jobs(args: argparse.Namespace) -> int:
    from sgtr_jax.experiment.api_jobs import jobs_of_run

    for what in ("cancel", "pause", "resume"):
        if name := getattr(args, what):
            return jobs_of_run(args.run_dir, what, name)
    return jobs_of_run(args.run_dir, None, None)


def _train(args: argparse.Namespace) -> int:
    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.finetune.config import TrainCommand

    command = build_config(TrainCommand, apply_overrides({}, args.overrides), "command line")
    from sgtr_jax.data.publish import read_records

    records = {path: read_records(path, command.format) for path in args.data}
    other = command.interleave
    mixed = read_records(other.path, other.format) if other is not None else ()
    _start_jax()
    from sgtr_jax.finetune.local import finetune_all

    jobs = command.jobs(args.model, tuple(args.adapter), records, mixed, args.out)
    failures = []
    for result in finetune_all(jobs):
        if result.failure is not None:
            failures.append(result.failure)
            continue
        job, report = result.job, result.tokenized
        what = "cut" if job.config.overlong == "cut" else "dropped"
        note = f", {report.too_long} longer than {report.max_length} tokens {what}" if report.too_long else ""
        _say(f"{job.out}: trained on {report.examples} of {report.records} records{note}")
    if failures:
        raise RunError("\n".join(failures))
    return 0


def _sample(args: argparse.Namespace) -> int:
    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.sample.config import SampleCommand

    config = build_config(SampleCommand, apply_overrides({}, args.overrides), "command line")
    from sgtr_jax.data.records import read_prompts

    prompts = read_prompts(args.prompts)
    from sgtr_jax.files import check_writable

    check_writable(args.out.parent)
    _start_jax()
    from sgtr_jax.sample.output_file import sample_to_file

    draws = config.draws(args.max_tokens, args.temperature, args.seed)
    written, new = sample_to_file(args.model, args.adapter, dict(args.chain), prompts, args.n, draws, config, args.out)
    _say(f"{args.out}: {written} completions of {len(prompts)} prompts" + ("" if new else ", all sampled before"))
    return 0


def _eval(args: argparse.Namespace) -> int:
    from sgtr_jax.config import apply_overrides, build_config
    from sgtr_jax.sample.config import SampleConfig

    words = [*(word for word in args.tasks if "=" in word), *args.overrides]
    tasks = [word for word in args.tasks if "=" not in word]
    given = apply_overrides({}, words)
    own = {key: given.pop(key) for key in list(given) if key in SampleConfig.model_fields}
    sampling = build_config(SampleConfig, own, "command line")
    loose = [key for key, value in given.items() if not isinstance(value, dict)]
    if loose or not tasks:
        raise InputError(f"command line: {loose or 'no task'}; expected tasks, and settings as TASK.setting=value")
    _start_jax()
    from sgtr_jax.experiment.eval_command import evaluate_one
    from sgtr_jax.experiment.services import JudgeConfig

    asked = {"model": args.judge, "base_url": args.base_url, "mode": args.judge_mode, "max_cost": args.max_cost}
    judge = build_config(JudgeConfig, asked, "command line")
    evaluate_one(args.model, args.adapter, tasks, given, sampling, judge, args.out, args.yes)
    return 0


def _convert(args: argparse.Namespace) -> int:
    from sgtr_jax.buckets import is_address
    from sgtr_jax.files import check_writable

    if not is_address(args.out):
        check_writable(Path(args.out).parent)
    _start_jax()
    from sgtr_jax.sample.model import convert_model

    convert_model(args.model, args.out, args.dtype)
    print(f"{args.out}: converted; use it as --model {args.out}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from sgtr_jax.files import check_writable

    check_writable(args.out.parent)
    _start_jax()
    from sgtr_jax.experiment.card import adapters_of, export_with_card, measured_in, push

    model, adapters, measured = args.model, args.adapter, ""
    if args.run is not None:
        if args.condition is None or adapters or model is not None:
            raise InputError("export --run: give --condition (and --seed), and neither --model nor --adapter")
        model, adapters = adapters_of(args.run, args.condition, args.seed)
        measured = measured_in(args.run, args.condition, args.seed)
    elif model is None:
        raise InputError("export: give --model, or --run with --condition")
    written = export_with_card(model, adapters, args.out, args.merge, args.dtype, measured)
    print(f"{args.out}: {written}")
    if args.push is not None:
        print(push(args.out, args.push, args.public, args.yes))
    return 0


def _report(args: argparse.Namespace) -> int:
    from sgtr_jax.report.write import report

    if len(args.run_dir) > 1 and args.out is None:
        raise InputError("report of several runs: give --out, the folder to write to")
    report(*args.run_dir, out=args.out)
    return 0


def _check(args: argparse.Namespace) -> int:
    from sgtr_jax.experiment.check import check

    return check(args.run_dir)


def _doctor(args: argparse.Namespace) -> int:
    from sgtr_jax.cli.doctor import doctor

    return doctor(args.bucket)


def _clean(args: argparse.Namespace) -> int:
    from sgtr_jax.experiment.status import clean

    return clean(args.run_dir, args.configs, args.yes)


def entry() -> Any:
    """Console script."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold bytes that are no text
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(supervise() if is_wanted() else main())


if __name__ == "__main__":
    entry()
