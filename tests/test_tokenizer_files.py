"""Tokenizers, chat templates and what lies beside a model: damage is named, and what is ambiguous is refused."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_chat import byte_tokenizer
from tiny import QWEN, make_adapter, make_model, spec_of

import sgtr_jax
from sgtr_jax import nano
from sgtr_jax.data.chat import ChatFormat, end_of_turn_id
from sgtr_jax.data.records import Record
from sgtr_jax.data.tokenizer import load_tokenizer
from sgtr_jax.errors import InputError
from sgtr_jax.finetune.jobs import Finetune, prepare
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.sample.export import export
from sgtr_jax.sample.model import convert_model, read_spec
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.weights.converted import converted_dtype

TALK = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "Nano."}]
READ = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(nano.FOLDER, tmp_path / "nano"))


def edit(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**data, **changes}))


def use(folder: Path) -> None:
    """All that reads the tokenizer before something is computed."""
    tokenizer = load_tokenizer(folder)
    chat = ChatFormat(tokenizer)
    chat.tokenize(TALK)
    chat.prompt_ids(TALK[:1])
    end_of_turn_id(tokenizer)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "", "{", "[1]", "NaN", '{"a": 1, "a": 2}', "[" * 99999])
def test_json_files_that_are_no_objects(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=name.replace(".", r"\.")) as caught:
        use(folder)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("key", ["eos_token", "extra_special_tokens", "added_tokens_decoder", "model_max_length"])
@pytest.mark.parametrize("value", [True, -1, [[1]], {"a": 1}, [None], 10**30], ids=str)
def test_settings_of_another_type(folder: Path, key: str, value: Any) -> None:
    """Read as transformers reads them, or one sentence; a number where a length belongs is not used here."""
    edit(folder / "tokenizer_config.json", **{key: value})
    try:
        use(folder)
        assert key in ("model_max_length", "extra_special_tokens")
    except InputError as error:
        assert str(folder) in str(error)


def test_no_damage_of_the_files_is_a_traceback(folder: Path) -> None:
    draw = random.Random(1)
    refused = 0
    for name in ("tokenizer_config.json", "tokenizer.json"):
        original = (folder / name).read_bytes()
        for _ in range(40 if name == "tokenizer_config.json" else 10):
            damaged = bytearray(original)
            for _ in range(draw.randrange(1, 4)):
                damaged[draw.randrange(len(damaged))] = draw.randrange(32, 127)
            (folder / name).write_bytes(damaged if draw.random() < 0.8 else damaged[: draw.randrange(len(damaged))])
            try:
                load_tokenizer(folder)
            except InputError as error:
                refused += 1
                assert str(folder) in str(error)
        (folder / name).write_bytes(original)
    assert refused > 10


def test_the_default_one_of_several_templates_is_used(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = config["chat_template"]
    wanted = ChatFormat(load_tokenizer(folder)).prompt_ids(TALK[:1])
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": template}]
    edit(folder / "tokenizer_config.json", chat_template=named)
    chat = ChatFormat(load_tokenizer(folder))
    assert chat.prompt_ids(TALK[:1]) == wanted and chat.fingerprint
    edit(folder / "tokenizer_config.json", chat_template=named[:1])
    with pytest.raises(InputError, match="tool_use, and none named default"):
        load_tokenizer(folder)
    edit(folder / "tokenizer_config.json", chat_template=3)
    with pytest.raises(InputError, match="chat_template"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("template", "part"),
    [
        ("{{ raise_exception('no such role') }}", "fails on a conversation of user: no such role"),
        ("{% for", "chat template fails"),
        ("{{ 1 / 0 }}", "division"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "does not end within"),
        ("{{ 'x' * 10000000000 }}", "bytes"),
        ("{{ 'x' * 3000000 }}", "four short messages: it writes far more than is said"),
    ],
)
def test_templates_that_fail_or_do_not_end(folder: Path, template: str, part: str) -> None:
    edit(folder / "tokenizer_config.json", chat_template=template)
    with pytest.raises(InputError, match=part) as caught:
        ChatFormat(load_tokenizer(folder)).prompt_ids(TALK[:1])
    assert str(folder) in str(caught.value) and len(str(caught.value)) < 500


def test_a_special_token_without_text_ends_nothing(folder: Path) -> None:
    wanted = end_of_turn_id(load_tokenizer(folder))
    edit(folder / "tokenizer_config.json", pad_token="")
    assert end_of_turn_id(load_tokenizer(folder)) == wanted == 0


def test_an_end_of_turn_that_the_model_has_no_row_for(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = config["chat_template"].replace(config["eos_token"], "<|over|>").replace("eos_token", "'<|over|>'")
    edit(folder / "tokenizer_config.json", chat_template=template, extra_special_tokens=["<|over|>"])
    model = sgtr_jax.load_model(folder)
    assert ChatFormat(model.tokenizer).end_of_turn() == "<|over|>"
    with pytest.raises(InputError, match=r"ends turns with token \d+ \('<\|over\|>'\)"):
        _ = model.stop_ids


def test_generation_config_is_read_before_a_weight_is(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 0]}))
    assert read_spec(folder).eos_ids == (0, 7)
    (folder / "model.safetensors").write_bytes(b"")
    for text in ("[]", '{"eos_token_id": "7"}', '{"eos_token_id": [[7]]}', '{"eos_token_id": true}'):
        (folder / "generation_config.json").write_text(text)
        with pytest.raises(InputError, match=r"generation_config\.json"):
            read_spec(folder)


@pytest.mark.parametrize(
    "change", [{"architectures": 3}, {"architectures": "Qwen2"}, {"model_type": ["qwen2"]}, {"model_type": {}}]
)
def test_names_of_another_type_in_a_config(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        spec_from_config({**QWEN, **change}, "x")


def test_a_model_beside_an_adapter_is_ambiguous(tmp_path: Path, folder: Path) -> None:
    make_adapter(tmp_path / "a", read_spec(folder))
    with pytest.raises(InputError, match="is an adapter; give"):
        sgtr_jax.load_model(tmp_path / "a")
    shutil.copy(tmp_path / "a" / "adapter_config.json", folder)
    with pytest.raises(InputError, match="holds a model and an adapter"):
        sgtr_jax.load_model(folder)


def test_an_adapter_that_brings_another_template(tmp_path: Path, folder: Path) -> None:
    base = sgtr_jax.load_model(folder)
    adapter = tmp_path / "a"
    make_adapter(adapter, base.spec)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, adapter)
    tokens = np.arange(12)[None]
    wanted = base.with_adapters([adapter]).logits(tokens)
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    # A pad token more and a note in the template form the same tokens.
    edit(adapter / "tokenizer_config.json", chat_template="{# saved #}" + template, extra_special_tokens=["<|more|>"])
    np.testing.assert_array_equal(base.with_adapters([adapter]).logits(tokens), wanted)
    edit(adapter / "tokenizer_config.json", chat_template="Q: " + template)
    with pytest.raises(InputError, match="form other tokens than the base's"):
        base.with_adapters([adapter])
    rows = [Record("r", tuple(TALK))]
    config = TrainConfig.model_validate({"batch_examples": 1, "lora": {"rank": 2}})
    for chain, lora in (((adapter,), {"rank": 2}), ((), {"init": str(adapter)})):
        job = Finetune(
            str(folder), chain, rows, config.model_copy(update={"lora": type(config.lora)(**lora)}), tmp_path
        )
        with pytest.raises(InputError, match="form other tokens than the base's"):
            prepare(job, folder, base.spec, base.tokenizer)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (adapter / name).unlink()
    (adapter / "chat_template.jinja").write_text(template)
    np.testing.assert_array_equal(base.with_adapters([adapter]).logits(tokens), wanted)
    (adapter / "chat_template.jinja").write_text(template + "x")
    with pytest.raises(InputError, match="form other tokens than the base's"):
        base.with_adapters([adapter])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"layers_pattern": "(", "layers_to_transform": [0]}, "no regular expression"),
        ({"layers_pattern": ["(?i)layers"], "layers_to_transform": [0]}, "no regular expression"),
        ({"rank_pattern": {"(?i)q_proj": 2}}, "no regular expression"),
        ({"alpha_pattern": {"q_proj)": 2}}, "no regular expression"),
    ],
)
def test_patterns_that_are_none_only_where_peft_puts_them(tmp_path: Path, change: Any, part: str) -> None:
    make_model(tmp_path / "m")
    make_adapter(tmp_path / "a", spec_of())
    edit(tmp_path / "a" / "adapter_config.json", **change)
    with pytest.raises(InputError, match=part):
        sgtr_jax.load_model(tmp_path / "m").with_adapters([tmp_path / "a"])


@pytest.mark.parametrize("pattern", ["layers", "model.layers", ["h", "layers"], r"[a-z]+"])
def test_layers_under_the_name_of_their_list(tmp_path: Path, pattern: Any) -> None:
    make_model(tmp_path / "m")
    make_adapter(tmp_path / "a", spec_of())
    edit(tmp_path / "a" / "adapter_config.json", layers_pattern=pattern, layers_to_transform=1)
    weights = tmp_path / "a" / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(weights).items() if ".layers.1." in name}, weights)
    (adapter,) = sgtr_jax.load_model(tmp_path / "m").with_adapters([tmp_path / "a"]).chain
    b = np.asarray(adapter.params["q_proj"]["b"])
    assert b[1].any() and not b[0].any()


def test_nothing_is_written_over_or_into_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "m")
    make_adapter(tmp_path / "a", spec_of())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out in (Path(), Path("m"), Path("other"), tmp_path.parent):
        with pytest.raises(InputError, match="would be replaced"):
            convert_model("m", out, None)
    (tmp_path / "a" / "README.md").write_text("as PEFT writes it")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="would be replaced"):
        export("m", [Path("a")], Path("a"), merged=False)
    for out in (Path("m/inside"), Path("m/../m/new")):
        with pytest.raises(InputError, match="give --out a folder elsewhere"):
            convert_model("m", out, None)
        with pytest.raises(InputError, match="give --out a folder elsewhere"):
            export("m", [], out, merged=False)
    with pytest.raises(InputError, match="give --out a folder elsewhere"):
        export("m", [Path("a")], Path("a/new"), merged=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_damaged_mark_of_a_converted_folder(tmp_path: Path) -> None:
    for text in ("[]", "{}", '{"dtype": 3}', '{"dtype": "float8"}', "{"):
        (tmp_path / "sgtr_converted.json").write_text(text)
        with pytest.raises(InputError, match=r"sgtr_converted\.json"):
            converted_dtype(tmp_path)


def test_damaged_parameters_of_a_converted_folder(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    convert_model(str(tmp_path / "m"), tmp_path / "c", None)
    parameter = tmp_path / "c" / "params" / "layers.q_proj.kernel"
    data = {path: path.read_bytes() for path in parameter.rglob("d/*")}
    for cut in (lambda content: b"", lambda content: content[: len(content) // 2], lambda content: b"[]"):
        for path, content in data.items():
            path.write_bytes(cut(content))
        with pytest.raises(InputError, match=r"layers\.q_proj\.kernel: .*(cannot be read|damaged)"):
            sgtr_jax.load_model(tmp_path / "c")
    for path, content in data.items():
        path.write_bytes(content)
    (parameter / "_METADATA").write_text("[]")
    with pytest.raises(InputError, match=r"layers\.q_proj\.kernel: cannot be read; convert the model again"):
        sgtr_jax.load_model(tmp_path / "c")


@pytest.mark.parametrize(
    ("template", "end"),
    [
        # It demands a system message; what ends a turn is what training trains all the same.
        ("{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}"
         "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
         "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "<|im_end|>"),
        # Two tokens end it: a model that writes the first one has ended its turn.
        ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|><seed:eos>{% endfor %}"
         "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "<|im_end|>"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
         "{% if add_generation_prompt %}assistant: {% endif %}", None),
    ],
)  # fmt: skip
def test_what_ends_a_turn(template: str, end: str | None) -> None:
    assert ChatFormat(byte_tokenizer(template)).end_of_turn() == end


def test_a_template_that_forms_no_conversation_is_refused() -> None:
    refuses = byte_tokenizer("{{ raise_exception('never') }}")
    with pytest.raises(InputError, match="never"):
        end_of_turn_id(refuses)
