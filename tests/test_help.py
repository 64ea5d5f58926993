"""What every command says of itself: each argument has help, each command examples, and the examples are right."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

import pytest

from sgtr_jax.cli.main import make_parser, parse

Parser = argparse.ArgumentParser


def parsers(parser: Parser, words: tuple[str, ...] = ("sgtr",)) -> Iterator[tuple[str, Parser]]:
    """Every parser with the words that lead to it."""
    yield " ".join(words), parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield from parsers(sub, (*words, name))


PARSERS = dict(parsers(make_parser()))


def examples(parser: Parser) -> list[list[str]]:
    lines = (parser.epilog or "").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("  sgtr ")]


def test_no_command_is_lost() -> None:
    commands = {words.split()[1] for words in PARSERS if words != "sgtr"}
    assert commands >= {
        "run", "plan", "judge", "jobs", "train", "sample", "eval", "convert", "export", "data", "report", "check",
        "doctor", "clean",
    }  # fmt: skip
    actions = {words.split()[2] for words in PARSERS if words.startswith("sgtr data ")}
    assert actions == {"list", "fetch", "build", "summarise", "check", "tokens", "publish"}


@pytest.mark.parametrize("words", PARSERS)
def test_every_argument_and_command_describes_itself(words: str) -> None:
    parser = PARSERS[words]
    assert parser.description
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert all(choice.help for choice in action._choices_actions)
        else:
            assert action.help, f"{words}: {action.option_strings or action.dest} has no help"
    assert len(examples(parser)) >= 2, f"{words} has no two examples"


@pytest.mark.parametrize("words", PARSERS)
def test_every_example_parses_and_is_of_its_command(words: str) -> None:
    for argv in examples(PARSERS[words]):
        if "COMMAND" in argv:
            continue
        assert argv[: len(words.split())] == words.split()
        assert callable(parse(argv[1:]).command), argv


def test_help_fits_a_terminal() -> None:
    """The formatter breaks what arguments say; descriptions and examples stand as they are written."""
    for words, parser in PARSERS.items():
        for text in (parser.description or "", *(parser.epilog or "").splitlines()):
            assert len(text) <= 119, (words, text)
