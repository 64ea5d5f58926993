"""What is trained and asked under templates of the families' forms; written here, as small as shows what matters."""

from __future__ import annotations

from typing import Any

import pytest
from test_chat import CHATML, TALK, byte_tokenizer, targets

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.errors import InputError

# The last turn has a thinking block, even an empty one; earlier turns lose it. Off: the prompt closes the block.
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# A first token of every text, in front of a system block that is always there.
LLAMA3 = (
    "{{ bos_token }}<|head|>system<|/head|>\n\nToday: 26 Jul\n\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% set messages = messages[1:] %}{% endif %}"
    "<|eot|>{% for m in messages %}<|head|>{{ m['role'] }}<|/head|>\n\n{{ m['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
# No role of its own for the system message, which goes into the user's first turn; the assistant is called model.
GEMMA = (
    "{{ bos_token }}{% set first = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}<|turn|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ first if loop.first else '' }}{{ m['content'] | trim }}<|/turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>model\n{% endif %}"
)
# Turns within a conversation end with one token, the whole conversation with another.
OLMO = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are made by Ai2.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% if loop.last and m['role'] == 'assistant' %}{{ eos_token }}{% else %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# No line of its own for a turn: the user's is in brackets, and the assistant's ends with the text's last token.
MISTRAL = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}[SYS]{{ messages[0]['content'] }}[/SYS]"
    "{% set messages = messages[1:] %}{% else %}[SYS]You are Mistral.[/SYS]{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]"
    "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
THOUGHT = "<think>\n\n</think>\n\n"


def chat(template: str, system: str = "default", **kwargs: Any) -> ChatFormat:
    tokenizer = byte_tokenizer(template)
    marks = ["<|head|>", "<|/head|>", "<|eot|>", "<|turn|>", "<|/turn|>", "[SYS]", "[/SYS]", "[INST]", "[/INST]"]
    tokenizer.add_special_tokens(
        {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "additional_special_tokens": marks}  # type: ignore[arg-type]
    )
    return ChatFormat(tokenizer, system, kwargs)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (LLAMA3, ["two<|eot|>", "four<|eot|>"]),
        (GEMMA, ["two<|/turn|>", "four<|/turn|>"]),
        (OLMO, [" two <|im_end|>", "four<|eos|>"]),
        (MISTRAL, [" two <|eos|>", "four<|eos|>"]),
    ],
    ids=["llama3", "gemma", "olmo", "mistral"],
)
def test_what_is_trained_is_the_text_and_the_end_of_the_turn(template: str, wanted: list[str]) -> None:
    form = chat(template)
    assert targets(form, TALK) == wanted
    whole = form.tokenizer.apply_chat_template(TALK, tokenize=False)
    assert "".join(segment.text for segment in form.segments(TALK)) == whole
    # A target is what follows the prompt of its turn.
    assert whole.startswith(form.prompt(TALK[:1]) + wanted[0]) and whole.startswith(form.prompt(TALK[:3]) + wanted[1])


@pytest.mark.parametrize(
    ("template", "plain"),
    [
        (QWEN3, "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"),
        (LLAMA3, "<|bos|><|head|>user<|/head|>\n\nOne?<|eot|><|head|>assistant<|/head|>\n\n"),
        (GEMMA, "<|bos|><|turn|>user\nOne?<|/turn|>\n<|turn|>model\n"),
        (OLMO, "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"),
        (MISTRAL, "<|bos|>[INST]One?[/INST]"),
    ],
    ids=["qwen3", "llama3", "gemma", "olmo", "mistral"],
)
def test_without_a_system_block_the_rest_is_as_it_was(template: str, plain: str) -> None:
    assert chat(template, "none").prompt(TALK[:1]) == plain
    own = chat(template, "none").prompt([{"role": "system", "content": "Mine."}, *TALK[:1]])
    assert "Mine." in own and own.endswith(plain[-12:])
    given = chat(template, "Given.").prompt(TALK[:1])
    assert "Given." in given and "Ai2" not in given and "Mistral" not in given


def test_thinking_off_is_a_closed_block_before_the_answer_in_training_and_sampling() -> None:
    """An answer of one token is read behind the block, and what is trained is the answer alone."""
    off, on = chat(QWEN3, thinking_budget=0), chat(QWEN3)
    assert off.prompt(TALK[:1]).endswith(f"<|im_start|>assistant\n{THOUGHT}")
    assert on.prompt(TALK[:1]).endswith("<|im_start|>assistant\n")
    assert targets(off, TALK[:2]) == [" two <|im_end|>"]
    # A model that may think has to write its empty thought by itself.
    assert targets(on, TALK[:2]) == [f"{THOUGHT} two <|im_end|>"]
    written = on.tokenizer.encode(f"{THOUGHT}yes", add_special_tokens=False)
    assert on.separate(written) == ("", "yes")


# The template opens the thought by itself, as those of models that always think do; Seed-OSS's has a budget.
THINKS = OLMO.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}")
SEED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if thinking_budget == 0 %}<seed:think>"
    "<seed:cot_budget_reflect>None left.</seed:cot_budget_reflect></seed:think>{% endif %}{% endif %}"
)


def asked_for_one_token(form: ChatFormat) -> str:
    return str(form.tokenizer.decode(form.answer_ids(TALK[:1])))


@pytest.mark.parametrize("budget", [{}, {"thinking_budget": 0}], ids=["on", "off"])
def test_an_answer_of_one_token_is_read_behind_the_thought(budget: dict[str, int]) -> None:
    """Whether the model may think or not: its first token would be that of the thought."""
    assert asked_for_one_token(chat(QWEN3, **budget)).endswith(f"<|im_start|>assistant\n{THOUGHT}")
    assert asked_for_one_token(chat(SEED, **budget)).endswith("None left.</seed:cot_budget_reflect></seed:think>")
    assert asked_for_one_token(chat(SEED, thinking_budget=512)) == asked_for_one_token(chat(SEED, **budget))
    for plain in (LLAMA3, GEMMA, OLMO, MISTRAL):
        assert chat(plain).answer_ids(TALK[:1]) == chat(plain).prompt_ids(TALK[:1])


def test_a_thought_that_cannot_be_closed_has_no_answer_of_one_token() -> None:
    assert "<think>" in THINKS
    form = chat(THINKS)
    assert form.prompt(TALK[:1]).endswith("<think>")
    with pytest.raises(InputError, match="no way to close it"):
        form.answer_ids(TALK[:1])
    # What the user says closes and opens nothing.
    form = chat(CHATML)
    told = [{"role": "user", "content": "Write <think>"}]
    assert form.answer_ids(told) == form.prompt_ids(told)


def test_earlier_turns_that_the_template_has_rewritten_are_context_and_no_targets() -> None:
    form = chat(QWEN3, thinking_budget=0)
    with pytest.raises(InputError, match="rewrites earlier turns"):
        form.segments(TALK)
    context: list[Any] = [TALK[0], {**TALK[1], "weight": 0}, *TALK[2:]]
    assert targets(form, context) == ["four<|im_end|>"]
    whole = form.tokenizer.apply_chat_template(TALK, tokenize=False)
    assert "".join(segment.text for segment in form.segments(context)) == whole


@pytest.mark.parametrize(
    ("template", "budget", "said"),
    [(QWEN3, 512, r"512.*0 \(off\) or null"), (CHATML + "{# <think> always #}", 0, "0.*expected null")],
)
def test_a_budget_that_a_template_cannot_keep_is_refused(template: str, budget: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        chat(template, thinking_budget=budget)
    # Templates without thinking have nothing to close.
    assert chat(CHATML, thinking_budget=0).prompt(TALK[:1]) == chat(CHATML).prompt(TALK[:1])
