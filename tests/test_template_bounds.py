"""Chat templates of others: what they may take and make, beforehand and in every conversation."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Never

import pytest

from sgtr_jax import nano
from sgtr_jax.data import template_check, template_process
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Message, Record
from sgtr_jax.data.token_cache import tokenize_all
from sgtr_jax.data.tokenizer import load_tokenizer
from sgtr_jax.errors import InputError

LONG = "word " * 8000
ROW: list[Message] = [{"role": "user", "content": "Word: stone. " + LONG}, {"role": "assistant", "content": "Yes."}]


def chat_of(first: str) -> ChatFormat:
    """The demo's template behind another one."""
    tokenizer = load_tokenizer(nano.FOLDER)
    tokenizer.chat_template = first + tokenizer.chat_template
    return ChatFormat(tokenizer)


EACH = "{% for m in messages %}BODY{% endfor %}"
# All are harmless for short messages.
GROWING = {
    "length times length": (
        "{% for c in m.content %}{{ m.content }}{% endfor %}",
        "at a conversation of 3 messages of",
    ),
    "one expression": ("{{ 'x' * (m.content | length) * (m.content | length) }}", "bytes|far more"),
    "a product in time": (
        "{% for c in m.content %}{% for d in m.content %}{% endfor %}{% endfor %}",
        "at a conversation of 3 messages of .* does not end within 3 seconds",
    ),
    "a factor": ("{{ m.content * 20 }}", "at a conversation of 3 messages of .* far more"),
    "messages times messages": ("{% for n in messages %}{{ 'xxxxxxxxxxxxxxxx' * 40 }}{% endfor %}", "400 short"),
}


@pytest.mark.parametrize("what", GROWING)
def test_what_grows_faster_than_what_is_said_is_refused_beforehand(what: str) -> None:
    body, said = GROWING[what]
    with pytest.raises(InputError, match=said):
        chat_of(EACH.replace("BODY", body))


def only_for(word: str, body: str) -> str:
    """A template that shows what it does for one word only, which nobody can know beforehand."""
    return EACH.replace("BODY", f"{{% if {word!r} in m.content %}}{body}{{% endif %}}")


def test_the_text_of_every_row_is_bounded_by_what_it_says() -> None:
    chat = chat_of(only_for("stone", "{{ m.content * 40 }}"))
    with pytest.raises(InputError, match=r"row 7: .*characters of a conversation of 2 messages in which 40,017"):
        tokenize_all([Record("row 7", tuple(ROW))], chat)
    with pytest.raises(InputError, match=r"1 messages in which 40,013 are said, and [0-9,]+ are the most"):
        chat.prompt_ids(ROW[:1])
    assert LONG in chat.prompt([{"role": "user", "content": LONG}])


# What a template does with one word alone, and what is said of it.
MISBEHAVING = {
    "a loop": ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "0.3 seconds"),
    "one long multiplication": ("{{ (m.content | length) ** 9999999 % 10 }}", "0.3 seconds"),
    "one large text": ("{{ ('x' * 99999999999) | length }}", "536,870,912 bytes"),
    "a text made wide": ("{{ 'x'.center(99999999999) | length }}", "536,870,912 bytes"),
    "a number made wide": ("{{ ('%99999999999d' % 1) | length }}", "."),
    "doubling": (
        "{% set ns = namespace(s='xx') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "536,870,912 bytes|0.3 seconds",
    ),
    "a list of lists": (
        "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "536,870,912 bytes|0.3 seconds",
    ),
    "a macro that calls itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "."),
}  # fmt: skip


@pytest.mark.parametrize("what", MISBEHAVING)
def test_time_and_memory_of_every_row_are_bounded(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "_SECONDS_EACH", 0.3)
    body, said = MISBEHAVING[what]
    chat = chat_of(only_for("stone", body))
    begun = time.monotonic()
    with pytest.raises(InputError, match=said):
        chat.prompt([{"role": "user", "content": "Word: stone."}])
    assert time.monotonic() - begun < 10
    assert "Word: leaf." in chat.prompt([{"role": "user", "content": "Word: leaf."}])


def test_threads_and_forks_are_given_their_own_texts() -> None:
    chat = ChatFormat(load_tokenizer(nano.FOLDER))

    def prompts(name: str) -> bool:
        said = [f"{name} {i}" for i in range(50)]
        return all(text in chat.prompt([{"role": "user", "content": text}]) for text in said)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(prompts, "abcd"))
    child = os.fork()
    if child == 0:
        os._exit(0 if prompts("fork") else 1)
    assert prompts("parent")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_answer_that_nobody_took_is_not_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = ChatFormat(load_tokenizer(nano.FOLDER))
    assert "first" in chat.prompt([{"role": "user", "content": "first"}])
    monkeypatch.setattr(template_process.json, "loads", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        chat.prompt([{"role": "user", "content": "second"}])
    monkeypatch.undo()
    assert "third" in chat.prompt([{"role": "user", "content": "third"}])


def _interrupted(_: object) -> Never:
    raise KeyboardInterrupt


def test_long_rows_and_conversations_of_many_turns_are_not_refused() -> None:
    chat = ChatFormat(load_tokenizer(nano.FOLDER))
    for content, turns in (("x" * 3_000_000, 2), ("x", 3000)):
        messages: list[Message] = [{"role": ("user", "assistant")[i % 2], "content": content} for i in range(turns)]
        assert content in chat.prompt(messages[:-1])


def test_a_template_that_passed_under_other_bounds_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    chat_of("{{ 'x' * 3000 }}")
    passed = list((tmp_path / "sgtr-jax" / "templates").iterdir())
    chat_of("{{ 'x' * 3000 }}")
    assert list((tmp_path / "sgtr-jax" / "templates").iterdir()) == passed and len(passed) == 1
    monkeypatch.setattr(template_check, "_TIMES", 4)
    chat_of("{{ 'x' * 3000 }}")
    assert len(list((tmp_path / "sgtr-jax" / "templates").iterdir())) == 2
