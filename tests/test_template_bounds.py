"""Chat templates of others: what they may take and make, beforehand and in every conversation."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType

import pytest

from sgtr_jax import nano
from sgtr_jax.data import template_check
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Message, Record
from sgtr_jax.data.template_check import ends_in_time
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
    "length times length": ("{% for c in m.content %}{{ m.content }}{% endfor %}", "2 messages|3 messages"),
    "one expression": ("{{ 'x' * (m.content | length) * (m.content | length) }}", "bytes|far more"),
    "a product in time": (
        "{% for c in m.content %}{% for d in m.content %}{% endfor %}{% endfor %}",
        "does not end within 3 seconds .* of 3 messages of",
    ),
    "a factor": ("{{ m.content * 20 }}", "far more for a conversation of 3 messages of"),
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


def test_the_time_of_every_row_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "_SECONDS_EACH", 0.3)
    chat = chat_of(only_for("stone", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"))
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"conversation of user: it does not end within 0\.3 seconds"):
        chat.prompt(ROW[:1])
    assert time.monotonic() - begun < 5
    assert LONG in chat.prompt([{"role": "user", "content": LONG}])
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_long_rows_and_conversations_of_many_turns_are_not_refused() -> None:
    chat = ChatFormat(load_tokenizer(nano.FOLDER))
    for content, turns in (("x" * 3_000_000, 2), ("x", 3000)):
        messages: list[Message] = [{"role": ("user", "assistant")[i % 2], "content": content} for i in range(turns)]
        assert content in chat.prompt(messages[:-1])


def test_a_timer_of_somebody_else_goes_on_and_other_threads_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[int] = []

    def ring(number: int, _: FrameType | None) -> None:
        rung.append(number)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        with ends_in_time():
            time.sleep(0.1)
        assert not rung and 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.3
        time.sleep(0.5)
        assert rung == [signal.SIGALRM] and signal.getsignal(signal.SIGALRM) is ring
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    monkeypatch.setattr(template_check, "_SECONDS_EACH", 0.05)
    done: list[bool] = []

    def work() -> None:
        with ends_in_time():
            time.sleep(0.2)
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


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
