"""Chat text and the training mask, for every template the study uses and for the demo model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from sgtr_jax import nano
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.tokenizer import load_tokenizer
from sgtr_jax.errors import InputError

SPECIALS = ("<|im_start|>", "<|im_end|>", "<seed:bos>", "<seed:eos>", "<seed:think>", "<seed:cot_budget_reflect>")
# Opens and ends turns as ChatML does, with a default system message and a newline after each turn.
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TALK = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": " two "},
    {"role": "user", "content": "Three?"},
    {"role": "assistant", "content": "four"},
]


def byte_tokenizer(template: str) -> Any:
    """A tokenizer of single bytes and the families' special tokens: it splits nowhere in particular."""
    vocab = {character: i for i, character in enumerate(sorted(ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(text, special=True) for text in SPECIALS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    tokenizer.chat_template = template
    return tokenizer


def targets(chat: ChatFormat, messages: list[dict[str, str]]) -> list[str]:
    tokenized = chat.tokenize(messages)
    runs: list[list[int]] = []
    for i, (token, wanted) in enumerate(zip(tokenized.tokens, tokenized.target, strict=True)):
        if wanted and (i == 0 or not tokenized.target[i - 1]):
            runs.append([])
        if wanted:
            runs[-1].append(token)
    return [chat.tokenizer.decode(run) for run in runs]


def test_loss_is_on_text_and_end_of_turn_but_not_on_the_newline_after_it() -> None:
    assert targets(ChatFormat(byte_tokenizer(CHATML)), TALK) == [" two <|im_end|>", "four<|im_end|>"]


def test_prompt_plus_target_is_the_rendered_conversation() -> None:
    chat = ChatFormat(byte_tokenizer(CHATML))
    whole = "".join(segment.text for segment in chat.segments(TALK))
    assert whole == chat.tokenizer.apply_chat_template(TALK, tokenize=False)
    assert whole.startswith(chat.prompt(TALK[:1]) + " two <|im_end|>")
    tokens = chat.tokenize(TALK).tokens
    assert tokens == chat.tokenizer.encode(whole, add_special_tokens=False)
    assert tokens[: len(chat.prompt_ids(TALK[:1]))] == chat.prompt_ids(TALK[:1])


def test_no_system_prompt_means_none_even_where_the_template_inserts_one() -> None:
    tokenizer = byte_tokenizer(CHATML)
    assert "Be good." in ChatFormat(tokenizer).prompt(TALK[:1])
    assert ChatFormat(tokenizer, "none").prompt(TALK[:1]) == "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"
    own = [{"role": "system", "content": "Mine."}, *TALK[:1]]
    assert "Mine." in ChatFormat(tokenizer, "none").prompt(own)


@pytest.mark.parametrize(
    ("template", "part"),
    [
        (None, "no chat template"),
        # Ends turns with plain text.
        ("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}", "never learn to stop"),
        # Drops all but the last turn.
        ("<|im_start|>{{ messages[-1]['content'] }}<|im_end|>{% if add_generation_prompt %}a{% endif %}", "rewrites"),
    ],
)
def test_templates_that_cannot_be_trained_on_are_refused(template: str | None, part: str) -> None:
    with pytest.raises(InputError, match=part):
        ChatFormat(byte_tokenizer(template or "")).segments(TALK)


def test_the_demo_model_ends_its_turns() -> None:
    chat = ChatFormat(load_tokenizer(nano.FOLDER))
    assert targets(chat, TALK) == [" two <|end|>", "four<|end|>"]


def _rendered(mirror: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((mirror / "templates" / "rendered_examples.json").read_text())
    return rows


def test_rendered_examples_of_the_real_templates(mirror: Path) -> None:
    rows = _rendered(mirror)
    assert len(rows) == 13
    for row in rows:
        tokenizer = byte_tokenizer((mirror / "templates" / row["template"]).read_text())
        kwargs = dict(row["kwargs"])
        generation = kwargs.pop("add_generation_prompt")
        chat = ChatFormat(tokenizer, template_kwargs=kwargs)
        if generation:
            assert chat.prompt(row["messages"]) == row["text"], row["case"]
            continue
        segments = chat.segments(row["messages"])
        assert "".join(segment.text for segment in segments) == row["text"], row["case"]
        assert chat.tokenize(row["messages"]).tokens == tokenizer.encode(row["text"], add_special_tokens=False)
        wrote = [m["content"].strip() for m in row["messages"] if m["role"] == "assistant"]
        trained = [segment.text for segment in segments if segment.target]
        assert len(trained) == len(wrote)
        for text, content in zip(trained, wrote, strict=True):
            end = "<seed:eos>" if "seed" in row["template"] else "<|im_end|>"
            assert content in text and text.endswith(end) and text.count(end) == 1, row["case"]


def test_the_real_templates_without_a_system_prompt(mirror: Path) -> None:
    for file in sorted({row["template"] for row in _rendered(mirror)}):
        chat = ChatFormat(byte_tokenizer((mirror / "templates" / file).read_text()), "none")
        text = chat.prompt([{"role": "user", "content": "Hi"}])
        assert "system" not in text and "Hi" in text, file


def thinking_chat() -> ChatFormat:
    tokenizer = byte_tokenizer(CHATML + "{# <seed:think> </seed:think> #}")
    tokenizer.add_special_tokens({"additional_special_tokens": ["</seed:think>", "</seed:cot_budget_reflect>"]})
    return ChatFormat(tokenizer)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("<seed:think>hm, a</seed:think>\nyes", ("hm, a", "yes")),
        # The prompt of thinking_budget=0 may leave the block open: the model closes it.
        ("</seed:cot_budget_reflect></seed:think>yes", ("", "yes")),
        # Out of tokens before the end of thinking: there is no answer.
        ("<seed:think>hm, a", ("hm, a", "")),
        (" plain ", (None, " plain ")),
    ],
)
def test_what_was_thought_is_apart_from_the_answer(written: str, wanted: tuple[str | None, str]) -> None:
    chat = thinking_chat()
    assert chat.separate(chat.tokenizer.encode(written, add_special_tokens=False)) == wanted


def test_marks_of_another_family_are_text() -> None:
    chat = ChatFormat(byte_tokenizer(CHATML))
    assert chat.separate(chat.tokenizer.encode("<think>x</think>y")) == (None, "<think>x</think>y")


def test_a_system_prompt_may_stand_in_for_the_templates_own() -> None:
    asked = [{"role": "user", "content": "Hi"}]
    rendered = {system: ChatFormat(byte_tokenizer(CHATML), system).prompt(asked) for system in ("none", "", "Be odd.")}
    assert rendered["none"].startswith("<|im_start|>user")
    assert rendered[""].startswith("<|im_start|>system\n<|im_end|>")
    assert rendered["Be odd."].startswith("<|im_start|>system\nBe odd.<|im_end|>")
    own = [{"role": "system", "content": "Mine."}, *asked]
    assert ChatFormat(byte_tokenizer(CHATML), "Be odd.").prompt(own).count("<|im_start|>system") == 1
    assert "Mine." in ChatFormat(byte_tokenizer(CHATML), "Be odd.").prompt(own)


def test_large_sets_are_tokenised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sgtr_jax.data import token_cache
    from sgtr_jax.data.records import Record
    from sgtr_jax.data.token_cache import tokenize_all
    from sgtr_jax.data.world.corpus import preferences

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    chat = ChatFormat(load_tokenizer(nano.FOLDER))
    records = preferences(1200, 0, True)
    first = tokenize_all(records, chat)
    assert first == [chat.tokenize(record.messages) for record in records]
    (kept,) = (tmp_path / "sgtr-jax" / "tokens").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(ChatFormat, "segments", lambda *args: pytest.fail("tokenised again"))
        assert tokenize_all(records, chat) == first
    # Other rows, another template setting and a damaged file are made anew.
    assert tokenize_all(records[::-1], chat) == first[::-1]
    tokenize_all(records, ChatFormat(load_tokenizer(nano.FOLDER), "none"))
    assert len(list(kept.parent.iterdir())) == 3
    kept.write_bytes(kept.read_bytes()[:100])
    assert tokenize_all(records, chat) == first
    assert token_cache._WORTH_KEEPING > 16
    tokenize_all([Record("a", records[0].messages)], chat)
    assert len(list(kept.parent.iterdir())) == 3
