"""What a chat template may take and make, which is looked at beforehand and in every conversation.

Beforehand short, long and many messages are rendered, once for each template on a machine, so that a template which
grows faster than what is said is refused before anything is computed. What a template does with certain words alone
nobody can know beforehand: every conversation has its time, its memory and its text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

from sgtr_jax.data.records import Message
from sgtr_jax.data.template_process import BYTES, TakesTooMuch, TemplateFails, TooManyCharacters, render
from sgtr_jax.errors import InputError
from sgtr_jax.files import user_cache, write_text
from sgtr_jax.json_types import Json

_SECONDS = 3.0  # of processor time, of a conversation beforehand
_SECONDS_EACH = 5.0  # of any conversation, which takes a fraction of a millisecond

# What a text may have: some of its own, some for each message, and so many times what is said. Text that is written as
# JSON takes up to six times its length.
_OWN, _EACH, _TIMES = 100_000, 1_000, 8

_TURNS = (("user", "Hi"), ("assistant", "Hello."), ("user", "Who are you?"), ("assistant", "A model."))
_LONG = "A line of words, 12 numbers and an \u00e9.\n" * 800
_MANY = 400


def most_characters(messages: Sequence[Message], template: str, variables: Mapping[str, Json]) -> int:
    """The most characters that a conversation's text may have: in proportion to what is said, and not to its square."""
    said = sum(len(message["content"]) for message in messages) + sum(len(str(value)) for value in variables.values())
    return _OWN + len(messages) * (_EACH + len(template)) + _TIMES * said


def render_bounded(
    template: str, variables: Mapping[str, Json], messages: Sequence[Message], generation: bool, where: str
) -> str:
    """The text of a conversation. Raises InputError for what the template refuses, and where it takes too much.

    `variables` are what the template is given besides the messages; `where` says whose template it is.
    """
    most = most_characters(messages, template, variables)
    roles = ", ".join(message["role"] for message in messages[:8]) + (" ..." if len(messages) > 8 else "")
    try:
        return render(template, variables, messages, generation, _SECONDS_EACH, most)
    except TooManyCharacters as error:
        said = sum(len(message["content"]) for message in messages)
        raise InputError(
            f"{where}: the chat template makes {error.characters:,} characters of a conversation of {len(messages)} "
            f"messages in which {said:,} are said, and {most:,} are the most that it may; get the template again from "
            "where the model is from"
        ) from error
    except TakesTooMuch as error:
        raise InputError(
            f"{where}: the chat template was stopped at a conversation of {roles}: {error}; get the template again "
            "from where the model is from"
        ) from error
    except TemplateFails as error:
        raise InputError(f"{where}: the chat template fails on a conversation of {roles}: {error!s:.200}") from error


def check_template(template: str, variables: Mapping[str, Json], where: str) -> None:
    """Raise InputError for a template that takes too much time or memory. What it refuses by itself is not judged.

    `variables` and `where` are as in `render_bounded`.
    """
    bounds = [_SECONDS, BYTES, _OWN, _EACH, _TIMES, len(_LONG), _MANY]
    asked = json.dumps({"template": template, "variables": variables, "bounds": bounds}, sort_keys=True, default=str)
    passed = user_cache() / "templates" / hashlib.sha256(asked.encode()).hexdigest()[:32]
    if passed.exists():
        return
    for of, messages in _conversations():
        generation, most = messages[-1]["role"] == "user", most_characters(messages, template, variables)
        try:
            render(template, variables, messages, generation, _SECONDS, most)
        except TakesTooMuch as error:
            what = "it writes far more than is said" if isinstance(error, TooManyCharacters) else str(error)
            raise InputError(
                f"{where}: the chat template was stopped at {of}: {what}. It is not used; get it again from where the "
                "model is from"
            ) from error
        except TemplateFails:
            continue  # it is asked again with the conversations that there are
    write_text(passed, "")


def _conversations() -> Iterator[tuple[str, list[Message]]]:
    short: list[Message] = [{"role": role, "content": text} for role, text in _TURNS]
    for count in (3, 4):
        yield "a conversation of four short messages", short[:count]
    for count in (3, 4):
        long: list[Message] = [{"role": role, "content": _LONG} for role, _ in _TURNS[:count]]
        yield f"a conversation of {count} messages of {len(_LONG):,} characters", long
    yield f"a conversation of {_MANY} short messages", [short[i % 4] for i in range(_MANY)]
