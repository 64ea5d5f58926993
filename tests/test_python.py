"""The few names for notebooks and scripts: chat, prompts in any form, adapters, results as a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import make_adapter, make_model

import sgtr_jax
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.errors import InputError
from sgtr_jax.sample.prompts import ids_of_prompts

TALK = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture(scope="module")
def nano() -> sgtr_jax.Model:
    return sgtr_jax.load_model("nano")


def test_what_there_is_is_listed() -> None:
    assert dir(sgtr_jax) == ["Model", "__version__", "load_model", "load_results"]


def test_a_chat_is_the_same_as_its_ids(nano: sgtr_jax.Model) -> None:
    ids = ChatFormat(nano.tokenizer).prompt_ids(TALK)
    (answer,) = nano.generate([ids], 24, stop_ids=nano.stop_ids)
    assert nano.chat("Who are you?", 24) == nano.chat(TALK, 24) == nano.decode(answer).strip() != ""
    with pytest.raises(InputError, match=r"chat: messages\[0\]: role is 'me'"):
        nano.chat([{"role": "me", "content": "Hi"}])


def test_prompts_of_every_form_are_the_same_ids(nano: sgtr_jax.Model) -> None:
    tokenizer: Any = nano.tokenizer
    ids = tuple(ChatFormat(tokenizer).prompt_ids(TALK))
    text = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    rendered = tokenizer.apply_chat_template(TALK, add_generation_prompt=True, return_dict=True)
    forms = [list(ids), np.array(ids), text, TALK, rendered, {"input_ids": [list(ids)]}]
    assert ids_of_prompts(forms, lambda: tokenizer) == [ids] * len(forms)
    # Several rows of a tokenizer, padded on the left or on the right.
    padded = {"input_ids": np.array([[0, 0, 5, 6], [7, 8, 9, 1]]), "attention_mask": [[0, 0, 1, 1], [1, 1, 1, 0]]}
    assert ids_of_prompts(padded, lambda: tokenizer) == [(5, 6), (7, 8, 9)]
    assert nano.generate([TALK], 4) == nano.generate([ids], 4)


@pytest.mark.parametrize(("prompts", "said"), [
    ("Who are you?", "single str"), ([1, 2, 3], "single list"), ([[[1, 2]]], "shape"), ([{"a": 1}], "input_ids"),
    ([{"input_ids": [[1], [2]]}], "2 rows"), ([[1.5]], "expected a text"), ([3.5], "shape"),
])  # fmt: skip
def test_what_is_no_prompt_is_refused(prompts: Any, said: str, nano: sgtr_jax.Model) -> None:
    with pytest.raises(InputError, match=said):
        nano.generate(prompts, 4)


def test_adapters_are_put_on_top_of_each_other(tmp_path: Path) -> None:
    spec = make_model(tmp_path / "m")
    for name, seed in (("a", 1), ("b", 2)):
        make_adapter(tmp_path / name, spec, seed=seed)
    model = sgtr_jax.load_model(tmp_path / "m")
    both = model.with_adapter(tmp_path / "a").with_adapter(str(tmp_path / "b"))
    chain = model.with_adapters([tmp_path / "a", tmp_path / "b"])
    tokens = np.array([[3, 4, 5]])
    assert both.chain_id == chain.chain_id and np.array_equal(both.logits(tokens), chain.logits(tokens))
    assert not np.allclose(both.logits(tokens), model.with_adapter(tmp_path / "a").logits(tokens))
    assert len(repr(both)) < 300 and "qwen2" in repr(both) and str(tmp_path / "b") in repr(both)
    assert ", adapters " not in repr(model)
