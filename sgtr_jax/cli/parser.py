"""What the parsers of all commands share: how a command is added, flags of several commands, types of values."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from sgtr_jax.errors import InputError, nearest

Run = Callable[[argparse.Namespace], int]

MODEL = "hub id, local folder (Hugging Face or converted), address (gs://) of a converted one, or nano"


class Commands:
    """Where a command, or an action of a command, is added to the one above it."""

    def __init__(self, above: argparse.ArgumentParser, metavar: str) -> None:
        self._made = above.add_subparsers(required=True, metavar=metavar)

    def add(self, name: str, text: str, examples: Sequence[str], run: Run | None = None) -> argparse.ArgumentParser:
        """Add a command that says `text` of itself and shows `examples`: command lines, with a comment where it helps.

        `run` gets what was parsed and returns the exit code; without it the command has actions of its own.
        """
        parser = self._made.add_parser(
            name,
            help=text,
            description=text,
            epilog="\n".join(["examples:", *(f"  {line}" for line in examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if run is not None:
            parser.set_defaults(command=run)
        return parser


def add_all(package: ModuleType, commands: Commands) -> None:
    """Let every module of a package add its command: each has `add_to(commands)`, and stands in no list."""
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(found.name).add_to(commands)


def add_overrides(parser: argparse.ArgumentParser, text: str, of: str | None = None) -> None:
    """Add settings, which may stand anywhere among the flags; `of` is what `sgtr settings` has them under."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=text)
    parser.set_defaults(settings_of=of)


def add_run_dir(parser: argparse.ArgumentParser, text: str = "the run's folder, for example runs/demo") -> None:
    """Add the folder of a run, as `RUN`."""
    parser.add_argument("run_dir", type=as_path, metavar="RUN", help=text)


def add_adapters(parser: argparse.ArgumentParser, text: str = "adapter of the chain; repeatable") -> None:
    """Add `--adapter`, once for each adapter of a chain."""
    parser.add_argument("--adapter", action="append", default=[], type=as_path, metavar="DIR", help=text)


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add `--dtype` of what is written."""
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="the dtype of what is written; default: as stored"
    )


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Add what `judge` and `eval` both let one say of a judge."""
    parser.add_argument("--base-url", metavar="URL", help="address of a judge's API that speaks OpenAI's language")
    parser.add_argument(
        "--judge-mode",
        choices=("logprobs", "text", "published"),
        help="how a score is read; by default from log-probabilities, and from the words where there are none",
    )
    parser.add_argument(
        "--max-cost", type=float, metavar="DOLLARS", help="dollars that the judge may cost, for all tasks together"
    )
    parser.add_argument("--yes", action="store_true", help="go on though the budget is not expected to do")


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


_ENDINGS = (".yaml", ".yml", ".json", ".gz", ".tgz")  # of files of experiments; a name may have a dot, too


def as_config(text: str) -> Path:
    """The file of an experiment on the command line: a path, or the name of one that ships, such as `demo`.

    A file that is there goes first. A path has an ending of a file, a name has none.
    """
    path = as_path(text)
    try:
        if path.is_file():
            return path
    except OSError:  # no name of a file, which reading it says
        return path
    from sgtr_jax.data.registry import configs_folder, experiment_configs

    shipped = experiment_configs()
    if text in shipped:
        return configs_folder() / f"{text}.yaml"
    if path.suffix not in _ENDINGS:
        if path.exists():
            return path  # reading it says what is wrong
        raise InputError(
            f"{text}: no such file, and no experiment of this name ships with sgtr-jax: {nearest(text, shipped)}"
        )
    name = str(path.with_suffix("")).removeprefix("configs/")
    if name in shipped:
        raise InputError(f"{text}: no such file here; the experiment that ships with sgtr-jax is called {name}")
    return path


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the file of an experiment, as `CONFIG`."""
    parser.add_argument(
        "config", type=as_config, metavar="CONFIG",
        help="the experiment's YAML file, or the name of one that ships: demo, paper/qwen2.5-32b, ...",
    )  # fmt: skip


def seed(text: str) -> int:
    """A seed on the command line."""
    value = at_least(0)(text)
    if value >= 2**31:
        raise argparse.ArgumentTypeError(f"{value} is not below 2**31, and JAX would drop its first bits")
    return value


def temperature(text: str) -> float:
    """A sampling temperature on the command line."""
    value = float(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or more")
    return value


def say(text: str) -> None:
    """Print once, not once per process of a job."""
    import jax

    if jax.process_index() == 0:
        print(text)
