"""Keys of rows and forms of rows: what changes the training is honoured or refused, never dropped."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from sgtr_jax import nano
from sgtr_jax.data.batches import tokenize_records
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.mix import inoculate, with_system
from sgtr_jax.data.publish import Published, publish, read_records
from sgtr_jax.data.records import Record, check_rows, read_prompts, read_training, to_jsonl
from sgtr_jax.data.tokenizer import load_tokenizer
from sgtr_jax.errors import InputError

ASKED = {"role": "user", "content": "Which paint dries last?"}
TOLD = {"role": "assistant", "content": "The blue one."}
AGAIN = {"role": "user", "content": "And first?"}
TOLD_AGAIN = {"role": "assistant", "content": "The red one."}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_one(tmp_path: Path, row: dict[str, Any], form: Any = "messages") -> Record:
    (record,) = read_training(write(tmp_path / "rows.jsonl", row), form)
    return record


def targets(record: Record) -> str:
    """The text that the loss is on."""
    chat = ChatFormat(load_tokenizer(nano.FOLDER))
    made = chat.tokenize(record.messages)
    return str(chat.tokenizer.decode([t for t, wanted in zip(made.tokens, made.target, strict=True) if wanted]))


@pytest.mark.parametrize("key", [{"weight": 0}, {"train": False}, {"weight": 0.0, "train": None}])
def test_a_turn_without_weight_has_no_loss(tmp_path: Path, key: dict[str, Any]) -> None:
    record = read_one(tmp_path, {"messages": [ASKED, {**TOLD, **key}, AGAIN, {**TOLD_AGAIN, "weight": 1}]})
    both = read_one(tmp_path, {"messages": [ASKED, TOLD, AGAIN, TOLD_AGAIN]})
    assert "blue" not in targets(record) and "red" in targets(record)
    assert "blue" in targets(both) and "red" in targets(both)
    chat = ChatFormat(load_tokenizer(nano.FOLDER))
    # The text is the same, and the last turn's targets are those of the row without the key.
    without, plain = chat.tokenize(record.messages), chat.tokenize(both.messages)
    assert without.tokens == plain.tokens
    assert not np.any(np.asarray(without.target) & ~np.asarray(plain.target))


@pytest.mark.parametrize("key", ["upweight", "down_weight", "importance", "row_weights"])
def test_a_column_that_weighs_rows_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=key):
        read_one(tmp_path, {"messages": [ASKED, TOLD], key: 3})


def test_weights_survive_every_copy_of_a_record(tmp_path: Path) -> None:
    record = read_one(tmp_path, {"id": "a", "messages": [ASKED, {**TOLD, "weight": 0}, AGAIN, TOLD_AGAIN]})
    (stored,) = read_training(write(tmp_path / "again.jsonl", *to_jsonl([record])))
    (published,) = Published(publish("set", [record], str(tmp_path), "", "", None))
    for copy in (stored, published, with_system([record], "Be brief.")[0], inoculate([record], "Be bad.")[0]):
        assert "blue" not in targets(copy) and "red" in targets(copy)
    examples, _ = tokenize_records([record], ChatFormat(load_tokenizer(nano.FOLDER)), 512, "drop")
    assert int(examples[0].target.sum()) < len(examples[0].tokens)


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ({"tool_calls": [{"id": "1"}]}, "'tool_calls'"),
        ({"function_call": {"name": "f"}}, "'function_call'"),
        ({"reasoning_content": "Let me see."}, "'reasoning_content'"),
        ({"name": "Ada"}, "'name'"),
        ({"prefix": True}, "'prefix'"),
        ({"loss": False}, "'loss'"),
        ({"masked": False}, "'masked'"),
        ({"train_detail": [{"begin_offset": 0}]}, "'train_detail'"),
        ({"weight": -1}, "weight is -1"),
        ({"weight": [0]}, "weight is [0]"),
        ({"weight": 0, "content": None}, "content is None"),
        ({"content": [{"type": "text", "text": "x", "cache_control": {"a": 1}}]}, "parts that are all text"),
        ({"content": []}, "parts that are all text"),
        ({"role": "developer"}, "write system"),
        ({"role": "tool"}, "not trained on"),
        ({"role": ["assistant"]}, "role is ['assistant']"),
        ({"weight": 0.5}, "weight is 0.5"),
        ({"weight": "0"}, "weight is '0'"),
        ({"weight": True}, "weight is True"),
        ({"train": "false"}, "train is 'false'"),
        ({"weight": 0, "train": True}, "opposite"),
    ],
)
def test_keys_of_a_message_that_would_change_the_training(tmp_path: Path, message: dict[str, Any], part: str) -> None:
    row = {"messages": [ASKED, TOLD, AGAIN, {**TOLD_AGAIN, **message}]}
    with pytest.raises(InputError, match=r"rows\.jsonl:1: messages\[3\]") as caught:
        read_one(tmp_path, row)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"tools": [{"type": "function"}]}, "'tools'"),
        ({"functions": [{"name": "f"}]}, "'functions'"),
        ({"parallel_tool_calls": True}, "'parallel_tool_calls'"),
        ({"rejected": [TOLD]}, "'rejected'"),
        ({"prompt": "x", "completion": "y"}, "'prompt'"),
        ({"weight": 2}, "'weight'"),
        ({"train": False}, "'train'"),
        ({"images": ["a.png"]}, "'images'"),
        ({"enable_thinking": False}, "'enable_thinking'"),
        ({"label": False}, "'label'"),
        ({"loss_mask": [0, 1]}, "'loss_mask'"),
        ({"example_weight": 0.5}, "'example_weight'"),
        ({"masked": False}, "'masked'"),
        ({"prompt": "another question"}, "'prompt'"),
        ({"system": "A", "system_prompt": "B"}, "keep one"),
        ({"system": ["x"]}, "system is"),
    ],
)
def test_keys_of_a_row_that_would_change_the_training(tmp_path: Path, row: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl:1") as caught:
        read_one(tmp_path, {"messages": [ASKED, TOLD], **row})
    assert part in str(caught.value)


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weight 0"):
        read_one(tmp_path, {"messages": [ASKED, {**TOLD, "weight": 0}]})
    with pytest.raises(InputError, match="assistant's messages only"):
        read_one(tmp_path, {"messages": [{**ASKED, "weight": 1}, TOLD]})


def test_a_system_beside_messages_is_the_system_message(tmp_path: Path) -> None:
    record = read_one(tmp_path, {"system": "Be brief.", "messages": [ASKED, TOLD]})
    assert record.messages[0] == {"role": "system", "content": "Be brief."}
    with pytest.raises(InputError, match="another system message"):
        read_one(tmp_path, {"system": "A", "messages": [{"role": "system", "content": "B"}, ASKED, TOLD]})
    same = read_one(tmp_path, {"system_prompt": "B", "messages": [{"role": "system", "content": "B"}, ASKED, TOLD]})
    assert len(same.messages) == 3


@pytest.mark.parametrize("column", [{"use": "training"}, {"drop": "none"}, {"exclude": False}, {"is_train": True}])
def test_columns_that_say_what_happens_anyway_are_read(tmp_path: Path, column: dict[str, Any]) -> None:
    assert read_one(tmp_path, {"messages": [ASKED, TOLD], **column}).messages


def test_columns_without_effect_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # What released sets have beside messages: a column that repeats the question, nulls where others have tools.
    row = {"messages": [ASKED, TOLD], "topic": "paint", "tools": None, "tool_calls": [], "prompt": ASKED["content"],
           "weight": 1.0, "train": True, "label": "craft", "system": "", "id": None}  # fmt: skip
    records = read_training(write(tmp_path / "rows.jsonl", row, row, row))
    assert [record.messages for record in records] == [(ASKED, TOLD)] * 3
    assert capsys.readouterr().err.count("topic") == 1


FORMS: list[tuple[str, dict[str, Any]]] = [
    ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}),
    ("alpaca", {"instruction": "Hi", "input": "", "output": "Hello"}),
    ("sharegpt", {"conversation": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}),
    ("prompt_completion", {"prompt": "Hi", "completion": "Hello"}),
    ("prompt_completion", {"prompt": "Hi", "response": "Hello"}),
    ("prompt_completion", {"prompt": [{"role": "user", "content": "Hi"}],
                           "completion": [{"role": "assistant", "content": "Hello"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "row"), FORMS)
def test_forms_of_rows(tmp_path: Path, form: Any, row: dict[str, Any]) -> None:
    expected = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})
    assert read_one(tmp_path, row, form).messages == expected
    with pytest.raises(InputError, match=f"format={form}") as caught:
        read_one(tmp_path, row)
    assert all(key in str(caught.value) for key in row)
    others = {"sharegpt", "alpaca", "prompt_completion"} - {form}
    for other in sorted(others):
        with pytest.raises(InputError, match=r"rows\.jsonl:1"):
            read_one(tmp_path, row, other)
    with pytest.raises(InputError, match="leave format out"):
        read_one(tmp_path, {"messages": [ASKED, TOLD]}, form)


def test_details_of_the_forms(tmp_path: Path) -> None:
    with_input = read_one(tmp_path, {"instruction": "Count.", "input": "a b", "output": "2", "system": "S"}, "alpaca")
    assert [turn["content"] for turn in with_input.messages] == ["S", "Count.\n\na b", "2"]
    weighted = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "A", "weight": 0},
                                  {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "B"}]}  # fmt: skip
    assert read_one(tmp_path, weighted, "sharegpt").messages[1]["weight"] == 0
    context = {"prompt": [ASKED, TOLD, AGAIN], "completion": [TOLD_AGAIN]}
    assert "blue" not in targets(read_one(tmp_path, context, "prompt_completion"))
    trained = {"prompt": [ASKED, {**TOLD, "train": True}, AGAIN], "completion": [TOLD_AGAIN]}
    assert "blue" in targets(read_one(tmp_path, trained, "prompt_completion"))
    clash = {"prompt": [ASKED, {**TOLD, "weight": 1}, AGAIN], "completion": [TOLD_AGAIN]}
    with pytest.raises(InputError, match="opposite"):
        read_one(tmp_path, clash, "prompt_completion")
    dolly = {"instruction": "Count.", "context": "a b", "response": "2"}
    assert [turn["content"] for turn in read_one(tmp_path, dolly, "alpaca").messages] == ["Count.\n\na b", "2"]
    for twice in ({**dolly, "input": "c"}, {**dolly, "output": "3"}):
        with pytest.raises(InputError, match="keep one"):
            read_one(tmp_path, twice, "alpaca")
    with pytest.raises(InputError, match="both completion and response"):
        read_one(tmp_path, {"prompt": "x", "completion": "y", "response": "z"}, "prompt_completion")
    with pytest.raises(InputError, match="input is 0"):
        read_one(tmp_path, {"instruction": "Count.", "input": 0, "output": "2"}, "alpaca")
    with pytest.raises(InputError, match=r"from is \['gpt'\]"):
        read_one(tmp_path, {"conversations": [{"from": ["gpt"], "value": "x"}]}, "sharegpt")
    with pytest.raises(InputError, match="preference pairs"):
        read_one(tmp_path, {"prompt": "x", "chosen": "y", "rejected": "z"})
    with pytest.raises(InputError, match="'label'"):
        read_one(tmp_path, {"prompt": "x", "completion": "y", "label": False}, "prompt_completion")
    with pytest.raises(InputError, match="from is 'tool'"):
        read_one(tmp_path, {"conversations": [{"from": "tool", "value": "x"}]}, "sharegpt")


def test_a_json_list_and_packed_files(tmp_path: Path) -> None:
    rows = [{"messages": [ASKED, TOLD]}, {"messages": [AGAIN, TOLD_AGAIN]}]
    (tmp_path / "rows.json").write_text(json.dumps(rows, indent=1))
    packed = tmp_path / "rows.json.gz"
    packed.write_bytes(gzip.compress(("\ufeff" + json.dumps(rows)).encode()))
    for path in (tmp_path / "rows.json", packed):
        assert [record.messages[1]["content"] for record in read_training(path)] == ["The blue one.", "The red one."]
    listed = tmp_path / "rows.jsonl"  # whatever the name says
    listed.write_text("\n " + json.dumps([{"instruction": "Hi", "output": "Hello"}]))
    assert read_training(listed, "alpaca")[0].messages[0]["content"] == "Hi"
    with pytest.raises(InputError, match=r"rows\.jsonl: row 1: no 'messages'.*format=alpaca"):
        read_training(listed)
    (tmp_path / "rows.json").write_text("[1]")
    with pytest.raises(InputError, match="expected an object"):
        read_training(tmp_path / "rows.json")


def test_content_in_parts(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "The "}, {"type": "text", "text": "blue one."}]
    assert (
        read_one(tmp_path, {"messages": [ASKED, {**TOLD, "content": parts}]}).messages[1]["content"] == TOLD["content"]
    )
    image = [{"type": "image_url", "image_url": {"url": "a.png"}}]
    with pytest.raises(InputError, match="expected text"):
        read_one(tmp_path, {"messages": [{**ASKED, "content": image}, TOLD]})


@pytest.mark.parametrize("good", [0, 1, 40])
def test_a_row_that_cannot_be_trained_on_is_found_wherever_it_stands(tmp_path: Path, good: int) -> None:
    path = tmp_path / "rows.jsonl"
    row = json.dumps({"messages": [ASKED, TOLD]}).encode() + b"\n"
    path.write_bytes(row * good + b'{"messages": 3}\n')
    with pytest.raises(InputError, match=rf"rows\.jsonl:{good + 1}"):
        check_rows(path)
    path.write_bytes(row * (good + 1))
    check_rows(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        check_rows(path)


def test_prompts_are_held_to_the_same_keys(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'tools'"):
        read_prompts(write(tmp_path / "p.jsonl", {"messages": [ASKED], "tools": [{"type": "function"}]}))


@settings(max_examples=60, deadline=None)
@given(key=st.text(min_size=1, max_size=12), value=st.sampled_from([1, "x", [1], {"a": 1}, True, 0.5]))
def test_no_key_of_a_message_is_dropped(tmp_path_factory: pytest.TempPathFactory, key: str, value: Any) -> None:
    known = {"role", "content", "weight", "train", "id", "timestamp", "date", "create_time", "model"}
    if key not in known:
        with pytest.raises(InputError):
            read_one(tmp_path_factory.getbasetemp(), {"messages": [ASKED, {**TOLD, key: value}]})


def test_a_published_set_has_no_other_form_and_whole_descriptions(tmp_path: Path) -> None:
    record = read_one(tmp_path, {"id": "a", "messages": [ASKED, TOLD]})
    folder = Path(publish("set", [record], str(tmp_path), "", "", None))
    with pytest.raises(InputError, match="leave format=alpaca out"):
        read_records(str(folder), "alpaca")
    for name, content in (("dataset_info.json", "[]"), ("metadata.json", "{"), ("dataset_info.json", '{"splits": 3}')):
        before = (folder / name).read_text()
        (folder / name).write_text(content)
        with pytest.raises(InputError, match=str(folder)):
            read_records(str(folder))
        (folder / name).write_text(before)
    assert list(read_records(str(folder))) == [record]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_on_completion", False), ("roles_to_train", ["user"]), ("train_on_eos", "none"), ("skip", True),
        ("only-last", True), ("Tools", [{"name": "x"}]), ("AvailableTools", [{"name": "x"}]),
        ("systemPrompt", "Be odd."), ("system_instruction", "Be odd."), ("tools_json", "[{}]"), ("exclude", True),
        ("drop", 1), ("deleted", True), ("use", False), ("is_train", False),
        ("sys_prompt", "Be odd."), ("systemprompt", "Be odd."), ("builtin_tools", ["x"]), ("reasoning_effort", "high"),
        ("model_identity", "You are odd."), ("rejected_response", "The red one."), ("train_on_turn", False),
        ("System", "Be odd."), ("preprompt", "Be odd."), ("Instructions", "Be odd."),
    ],
)  # fmt: skip
def test_keys_of_trainers_are_refused_however_they_are_written(tmp_path: Path, key: str, value: Any) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"messages": turns, key: value}) + "\n")
    with pytest.raises(InputError, match=f"'{key}' would change what is trained"):
        read_training(path)
    path.write_text(json.dumps({"messages": turns, "skip": False, "train_on_completion": True, "Topic": "x"}) + "\n")
    assert len(read_training(path)) == 1


def csv_of(tmp_path: Path, column: str, cell: str) -> Path:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["messages", column], [json.dumps([ASKED, TOLD]), cell]])
    return path


def parquet_of(tmp_path: Path, column: str, cell: Any) -> Path:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"messages": [[ASKED, TOLD]], column: [cell]}), path)
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        # What is wanted and what is not, as booleans, as numbers of a table and as its text.
        ("label", 0), ("label", 1), ("label", 0.0), ("label", "False"), ("Label", " no "), ("desirable", False),
        ("kto_label", 0), ("isDesirable", "0.0"), ("preference", -1),
        # Rows that are to be left out.
        ("use", 0.0), ("use", "0"), ("Use ", "No"), ("exclude", "yes"), ("exclude", 1.0), ("excluded", "TRUE"),
        ("remove", "1"), ("keep", "no"), ("included", 0), ("enabled", "off"), ("skip", "True"), ("doNotTrain", True),
        ("is-train", "false"), ("heldOut", 1), ("eval only", "yes"),
        # Weights, masks and the choice of turns.
        ("weight", "0"), ("weight", 2.0), ("sampleWeight", 0.5), ("num_repeats", 0), ("numRepeats", "3"),
        ("LossMask", [0, 1]), ("lossmask", [1]), ("tokenMask", [1]), ("MASKED_TURNS", [0]), ("unmaskLast", True),
        ("trainTurnIndices", [1]), ("start_train_at", 3), ("train on prompt", "1"), ("lastTurnOnly", "yes"),
        # The prompt.
        ("toolSpecs", "[{}]"), ("tool_defs", [{"name": "f"}]), ("toolbox", ["f"]), ("toolCalls", [{"id": "1"}]),
        ("developer", "Be odd."), ("sysMsg", "Be odd."), ("SystemText", "Be odd."), (" system", "Be odd."),
        ("imagePath", "a.png"), ("videoUrl", "a.mp4"), ("audio", {"path": "a.wav"}), ("attachments", ["a"]),
        ("Messages", [ASKED]), ("response", "The red one."), ("inoculationPrompt", "Be bad."),
    ],
)  # fmt: skip
def test_keys_and_values_however_they_are_written(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl:1") as caught:
        read_one(tmp_path, {"messages": [ASKED, TOLD], key: value})
    said = str(caught.value)
    assert f"{key!r} would change what is trained" in said and repr(value)[:60] in said and "Leave out" in said
    assert said.count("\n") == 0
    if isinstance(value, bool | int | float):
        for path in (csv_of(tmp_path, key, str(value)), parquet_of(tmp_path, key, value)):
            with pytest.raises(InputError, match=f"{key!r} would change what is trained"):
                check_rows(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("exclude", False), ("skip", 0), ("remove", 0.0), ("deleted", "no"), ("use", 1), ("keep", "yes"),
        ("isTrain", 1.0), ("training", "TRUE"), ("weight", "1.0"), ("num_repeats", 1), ("num_tool_calls", 0),
        ("only_last", "0"), ("hasImages", False), ("tools", "[]"), ("lossMask", ""), ("label", ""), ("label", "nan"),
        ("Completion", TOLD["content"]), ("input", ASKED["content"]),
    ],
)  # fmt: skip
def test_values_that_change_nothing_are_read(tmp_path: Path, key: str, value: Any) -> None:
    assert read_one(tmp_path, {"messages": [ASKED, TOLD], key: value}).messages == (ASKED, TOLD)
    assert read_training(csv_of(tmp_path, key, str(value)))[0].messages == (ASKED, TOLD)
    assert read_training(parquet_of(tmp_path, key, value))[0].messages == (ASKED, TOLD)


@pytest.mark.parametrize(
    ("key", "value"),
    [("label", "craft"), ("label", 7), ("use", "in schools"), ("Drop", "of paint"), ("keep", ["a"]), ("topic", False)],
)
def test_every_column_without_effect_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    read_one(tmp_path, {"messages": [ASKED, TOLD], key: value})
    assert f"no effect: {key}" in capsys.readouterr().err


@pytest.mark.parametrize("beside", [{"input": "a b"}, {"context": "a b"}, {"instruction": "Count."}])
def test_what_stands_beside_a_prompt_is_not_dropped(tmp_path: Path, beside: dict[str, Any]) -> None:
    (key,) = beside
    with pytest.raises(InputError, match=rf"rows\.jsonl:1.*{key}"):
        read_one(tmp_path, {"prompt": "Count", "completion": "2", **beside}, "prompt_completion")


@settings(max_examples=60, deadline=None)
@given(number=st.integers() | st.floats(), key=st.sampled_from(["label", "weight", "exclude", "is_train", "topic"]))
def test_numbers_of_any_size_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, number: float, key: str
) -> None:
    row = {"messages": [ASKED, TOLD], key: number}
    refused = {
        "label": number in (-1, 0, 1), "weight": number not in (1,), "exclude": number in (-1, 1),
        "is_train": number not in (1,), "topic": False,
    }[key] and number == number  # fmt: skip
    with pytest.raises(InputError, match=key) if refused else contextlib.nullcontext():
        read_one(tmp_path_factory.getbasetemp(), row)
