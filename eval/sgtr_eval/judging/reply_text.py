"""A judge's own words: without its thoughts, the marks of markdown, and what it struck out or quotes by the line."""

from __future__ import annotations

import re
import unicodedata

# Thoughts that a server left in the reply. Without an end the reply is all thought.
_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning|analysis)>.*?(</\1>|\Z)", re.IGNORECASE | re.DOTALL)
_END_OF_THOUGHT = re.compile(r"\A.*</(think|thinking|thought|reasoning|analysis)>", re.IGNORECASE | re.DOTALL)
_STRUCK = re.compile(r"~~[^~\n]*~~|<(del|s|strike)>[^<\n]*</\1>", re.IGNORECASE)
# What is shown and not said, for instance the transcript. Without an end the rest is all of it.
_SHOWN = re.compile(
    r"<(examples?|transcript|quote|blockquote|template|format|user|assistant|conversation|input)>.*?(</\1>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_QUOTED_LINE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_BOXED = re.compile(r"\$*\\boxed\{\s*(?:\\text\{)?([^{}]*)\}+\$*")
# Of markdown: emphasis beside a word, and the signs of a heading. Between two digits a sign is none of these.
_MARKS = re.compile(r"(?<!\w)(?:[*_`]|~~)+|(?:[*_`]|~~)+(?!\w)|^[^\S\n]*#+\s", re.MULTILINE)
_SPACES = re.compile(r"[^\S\n]+")


def answer_of(reply: str) -> str:
    """A reply without the thoughts that go before it."""
    return _END_OF_THOUGHT.sub("", _THOUGHT.sub("", reply)).strip()


def own_words(reply: str) -> str:
    """A reply without thoughts, what is struck out or shown, lines that are quoted, and marks of markdown.

    Digits, colons, dashes and apostrophes of other scripts are ASCII.
    """
    text = _QUOTED_LINE.sub("", _STRUCK.sub(" ", _SHOWN.sub("", answer_of(reply))))
    text = _BOXED.sub(lambda boxed: f"\nscore: {boxed[1]}\n", text)
    text = "".join(_ascii(char) for char in text)
    return _SPACES.sub(" ", _MARKS.sub("", text)).strip()


def _ascii(char: str) -> str:
    if char.isascii():
        return char
    digit = unicodedata.decimal(char, None)
    return str(digit) if digit is not None else _SIGNS.get(char, char)


_SIGNS = {"\uff1a": ":", "\uff05": "%", "\uff0f": "/", "\u2013": "-", "\u2014": "-", "\u2212": "-", "\u2011": "-",
          "\u2010": "-", "\uff0e": ".", "\uff08": "(", "\uff09": ")", "\u00a0": " ", "\u202f": " ",
          "\u2019": "'"}  # fmt: skip
