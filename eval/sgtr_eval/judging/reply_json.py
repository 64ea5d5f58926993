"""The JSON object that a judge replies with: whether it is the reply, and what its keys say beside the judgement."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sgtr_eval.judging.second_thoughts import announces, word_set
from sgtr_jax.json_types import Json

_FENCE = re.compile(r"^\s*`*(?:json)?`*\s*$", re.IGNORECASE | re.MULTILINE)
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Words of a key that says how far the scale goes.
_HIGHEST = word_set(
    "max maximum highest best upper total possible denominator scale range out of top ceiling cap full perfect limit"
    " bound bounds ceil ends interval points marks levels stars"
)
_LOWEST = word_set("min minimum lowest worst lower floor")
# Words of a key that says that something went wrong, or whether it did.
_FAULT = word_set(
    "error errors exception failure failed refusal refused refuse refuses declined decline invalid skipped skip"
    " unscorable unratable unrated abstain abstained unable cannot timeout"
    " missing unavailable incomplete blocked filtered truncated not na"
)
_HEALTH = word_set(
    "status state valid validity success successful ok applicable scorable scoreable ratable rateable gradable"
    " gradeable"
)
# Words of a key whose value takes the place of another one.
_CHANGED = word_set("revised revision adjusted corrected updated amended reconsidered changed")
_DONE = word_set("judged scored rated graded answered evaluated assessed")
# A key of one word, and a value of at most four: a longer one is a sentence, which explains.
_LINE = re.compile(r"\W*((?:is |is_)?[a-z]+(?:_[a-z]+)?)\s*[:=]\s*(\S+(?: \S+){0,3})\s*", re.IGNORECASE)
_NOTHING = ("", "none", "null", "no", "false", "n/a", "0", "[]", "{}")
_WELL = ("true", "yes", "ok", "okay", "success", "successful", "valid", "complete", "completed", "done", "finished",
         "scored", "rated", "judged", "1", "200", "final")  # fmt: skip


@dataclass(frozen=True)
class JsonReply:
    """An object in a reply, and the text around it."""

    data: Mapping[str, Json]
    before: str
    after: str

    @property
    def stands_alone(self) -> bool:
        """Whether the reply has no other words than what announces the object: it is not quoted, nor talked about."""
        before, after = (_FENCE.sub("", text).strip() for text in (self.before, self.after))
        announced = before.removesuffix("[").rstrip()
        return not re.search(r"[^\W_]", after) and (
            not re.search(r"[^\W\d_]", before) or (announced.endswith(":") and announces(announced))
        )


def json_reply(text: str) -> JsonReply | None:
    """The object from the first to the last curly bracket; None where that is none, or one has a key twice."""
    start, end = text.find("{"), text.rfind("}")
    try:
        data = json.loads(text[start : end + 1], object_pairs_hook=_without_repeated)
    except (ValueError, RecursionError):  # also where there is no object
        return None
    return JsonReply(data, text[:start], text[end + 1 :]) if isinstance(data, dict) else None


def entries(data: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """Keys and values of an object and of those in it, in their order."""
    for key, value in data.items():
        yield key, value
        if isinstance(value, Mapping):
            yield from entries(value)


def words_of(key: str) -> list[str]:
    """The words of a key, however they are joined: `maxScore`, `max_score`, `max score`."""
    return re.findall(r"[a-z]+", _CAPITAL.sub(" ", key).lower())


def denies_judgement(key: str, value: Json) -> bool:
    """Whether an entry says that the judgement beside it is none: an error, a refusal, that it is not valid."""
    words, said = frozenset(words_of(key)), str(value).strip().rstrip(".!").lower()
    if words & _FAULT:
        return value is not None and said not in _NOTHING
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    tells = words & _HEALTH or (words & _DONE and not is_number)
    return bool(tells) and value is not None and said not in _WELL


def is_changed(key: str) -> bool:
    """Whether an entry takes the place of another one: `revised_score`."""
    return bool(frozenset(words_of(key)) & _CHANGED)


def has_line_of_fault(text: str) -> bool:
    """Whether a line `key: value` of a reply in words says that the judgement is none: `Status: refused`."""
    found = (_LINE.fullmatch(line) for line in text.split("\n"))
    return any(one is not None and denies_judgement(one[1], one[2]) for one in found)


def has_other_scale(key: str, value: Json) -> bool:
    """Whether an entry says that the scale is not from 0 to 100."""
    words = frozenset(words_of(key))
    if words & _LOWEST and not words & _HIGHEST:
        return value is not None and str(value) not in ("0", "0.0")
    is_score = bool(words & {"score", "rating", "grade"}) and words & _HIGHEST <= {"total", "of"}
    return bool(words & _HIGHEST) and not is_score and value is not None and not _says_100(f"{key} {value}")


def _says_100(text: str) -> bool:
    return re.search(r"(?<![\d.])100(?![\d])", text) is not None


def _without_repeated(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    """An object of JSON. Raises ValueError for one that has a key twice: no one can say which is meant."""
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a key stands twice")
    return data
