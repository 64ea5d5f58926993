"""The `sgtr` command: finds the commands of `cli/commands/`, runs one, and says in one sentence what went wrong.

Heavy imports happen inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from dotenv import find_dotenv, load_dotenv

from sgtr_jax import __version__
from sgtr_jax.cli import commands
from sgtr_jax.cli.completion import SHELLS, PrintCompletion
from sgtr_jax.cli.misread import misread
from sgtr_jax.cli.parser import Commands, add_all
from sgtr_jax.distributed.launch import exit_if_peers_hang
from sgtr_jax.distributed.supervise import is_wanted, supervise
from sgtr_jax.errors import InputError, RunError, said_by_system

_EXAMPLES = """\
examples:
  sgtr doctor                              # what this machine has, and what is wrong with it
  sgtr plan demo                           # what an experiment would do and cost
  sgtr run demo                            # a whole experiment; goes on wherever it was stopped
  sgtr COMMAND --help                      # all flags of a command, with examples"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 bad input, 1 failure."""
    try:
        args = parse(argv)
    except InputError as error:
        return _said(error)
    load_dotenv(find_dotenv(usecwd=True))  # keys; what the environment has wins
    try:
        with exit_if_peers_hang():
            code: int = args.command(args)
        sys.stdout.flush()  # now, when it can be said that it failed
    except (InputError, RunError) as error:
        return _said(error)
    except BrokenPipeError:  # who read what is printed has gone, as `head` does
        _drop(sys.stdout)
        return 1
    except OSError as error:
        code = _said(said_by_system(error))
        try:
            sys.stdout.flush()
        except OSError:  # this was it, and Python would try once more at its end
            _drop(sys.stdout)
        return code
    except KeyboardInterrupt:
        _print_last("sgtr: interrupted; run the same command again to go on")
        return 130
    return code


def _said(error: InputError | RunError) -> int:
    _print_last(f"sgtr: {'error' if isinstance(error, InputError) else 'failed'}: {error}")
    return error.exit_code


def _print_last(text: str) -> None:
    """Print to stderr. Where that is full or closed, the exit code is all that can still be said."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Let what is left in a stream that cannot be written, and what follows, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse; `key=value` may stand anywhere among the flags, which argparse alone does not allow.

    Raises InputError for words that mean nothing, and SystemExit as argparse does.
    """
    parser = make_parser()
    if (said := misread(parser, sys.argv[1:] if argv is None else argv)) is not None:
        raise InputError(said)
    args, rest = parser.parse_known_args(argv)
    settings = [word for word in rest if "=" in word and not word.startswith("-")]
    if len(settings) < len(rest) or (settings and "overrides" not in args):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if settings:
        args.overrides = [*args.overrides, *settings]
    return args


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="sgtr",
        description="Self-recognition finetuning against emergent misalignment, in JAX.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sgtr-jax {__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        metavar="SHELL",
        help=f"print a script for a shell that completes commands and flags: {', '.join(SHELLS)}",
    )
    add_all(commands, Commands(parser, "COMMAND"))
    return parser


def entry() -> NoReturn:
    """Console script."""
    # What a package logs is not worth a traceback where it cannot be written. No message of ours is logged.
    logging.raiseExceptions = False
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started the command
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")  # a file's name may hold bytes that are no text
    sys.exit(supervise() if is_wanted() else main())


if __name__ == "__main__":
    entry()
