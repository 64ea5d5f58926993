"""Words of a command line that mean nothing, and what was meant: a command, a flag, a setting, or one as the other."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence

from sgtr_jax.errors import nearest
from sgtr_jax.near import SYNONYMS, called, close, remark

_NUMBER = re.compile(r"-[\d.]")


def misread(parser: argparse.ArgumentParser, words: Sequence[str]) -> str | None:
    """One sentence about the first word that means nothing; None where argparse can go on."""
    if {"-h", "--help"} & set(words):
        return None
    rest = list(words)
    while (commands := _commands(parser)) is not None:
        at = next((i for i, word in _own_words(parser, rest) if not word.startswith("-")), None)
        if at is None:
            return None
        if rest[at] not in commands:
            return f"no command {rest[at]!r} of {parser.prog}: {nearest(rest[at], commands)}"
        parser, rest = commands[rest[at]], rest[at + 1 :]
    for _, word in _own_words(parser, rest):
        if (said := _about(parser, word, rest)) is not None:
            return said
    return None


def _about(parser: argparse.ArgumentParser, word: str, words: Sequence[str]) -> str | None:
    name, equals, value = word.partition("=")
    flags = {flag.lstrip("-").replace("-", "_"): flag for flag in parser._option_string_actions}
    if word.startswith("-"):
        if _known_flag(parser, word) or _NUMBER.match(word) or " " in word:
            return None
        wrong, settings = name.lstrip("-").replace("-", "_"), _settings_of(parser, words)
        found = called(wrong, [*flags, *settings]) or close(wrong, [*flags, *settings], cutoff=0.65)
        if found is None:
            return f"no flag {word}: `{parser.prog} --help` lists all"
        if found in flags:
            return f"no flag {word}: did you mean {flags[found]}?"
        return f"no flag {word}: did you mean the setting {found}={value or 'VALUE'}{remark(wrong, found)}?"
    if not equals:
        return None
    for candidate in (name, *SYNONYMS.get(name, ())):
        flag = flags.get(candidate.replace("-", "_"))
        if flag is not None and not {name, candidate} & set(_settings_of(parser, words)):
            return f"{word}: did you mean {flag} {value}?"
    return _no_setting(parser, name, words, flags)


def _no_setting(
    parser: argparse.ArgumentParser, name: str, words: Sequence[str], flags: Mapping[str, str]
) -> str | None:
    """About a setting that a command does not take: said before what it needs is imported."""
    from sgtr_jax.experiment.settings import stored

    of = parser.get_default("settings_of")
    head, _, rest = name.partition(".")
    if of == "eval" and rest and head in words:
        taken = [one.path for one in stored() if one.of == head]
        if any(one.of == head for one in stored()) and rest.partition(".")[0] not in taken:
            return f"{head} has no setting {rest!r}: {nearest(rest, taken)}"
    if of in ("train", "sample"):
        taken = [one.path for one in stored() if one.of == of]
        if head not in {path.partition(".")[0] for path in taken}:
            wrong = name.replace("-", "_")
            if (flag := close(wrong, flags, cutoff=0.75)) is not None:
                return f"no setting {name!r} of {parser.prog}: did you mean {flags[flag]}?"
            return f"no setting {name!r} of {parser.prog}: {nearest(name, taken)} (`sgtr settings {of}` lists all)"
    return None


def _own_words(parser: argparse.ArgumentParser, words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The words that are not values of flags, up to a `--`, with their places."""
    is_value = False
    for i, word in enumerate(words):
        if word == "--":
            return
        if is_value and not word.startswith("-"):
            is_value = False
            continue
        yield i, word
        action = _flags(parser).get(word)
        is_value = action is not None and action.nargs != 0


def _known_flag(parser: argparse.ArgumentParser, word: str) -> bool:
    """Whether argparse knows it, also by its beginning."""
    name = word.partition("=")[0]
    return any(flag == name or (name.startswith("--") and flag.startswith(name)) for flag in _flags(parser))


def _flags(parser: argparse.ArgumentParser) -> Mapping[str, argparse.Action]:
    return parser._option_string_actions


def _commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser] | None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return None


def _settings_of(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Paths of the settings that a command takes: of its own, and of the evaluations that it names."""
    from sgtr_jax.experiment.settings import stored

    of = parser.get_default("settings_of")
    if of == "eval":
        return arguments_of(words)
    return [] if of is None else [one.path for one in stored() if one.of == of]


def arguments_of(evaluations: Sequence[str]) -> list[str]:
    """`identity.maker`, ...: the arguments of some evaluations, as the command line has them."""
    from sgtr_jax.experiment.settings import stored

    return [f"{one.of}.{one.path}" for one in stored() if one.of in evaluations]
