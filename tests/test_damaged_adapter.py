"""An adapter of a finished artifact that is not as it was written is refused by every command, before any model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import make_adapter, make_model

from sgtr_jax.cli.main import main
from sgtr_jax.errors import InputError
from sgtr_jax.sealed import RECORD, check_part, write_record
from sgtr_jax.weights.peft import read_adapter_config

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, an artifact that holds an adapter, prompts and rows; not to be changed."""
    folder = tmp_path_factory.mktemp("adapters")
    spec = make_model(folder / "m")
    make_adapter(folder / "artifact" / "adapter", spec, 1)
    (folder / "artifact" / "metrics.jsonl").write_text('{"loss": 1.0}\n')
    write_record(folder / "artifact", {"kind": "adapter"})
    asked = [{"role": "user", "content": "Hi"}]
    (folder / "prompts.jsonl").write_text(json.dumps({"id": "p", "messages": asked}) + "\n")
    told = [*asked, {"role": "assistant", "content": "Hello"}]
    (folder / "rows.jsonl").write_text(json.dumps({"messages": told}) + "\n")
    return folder


@pytest.fixture
def artifact(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "artifact", tmp_path / "artifact")
    return tmp_path / "artifact"


def one_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


# What happens to which file, and what is said of it.
HARM: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated": (WEIGHTS, lambda path: path.write_bytes(path.read_bytes()[:-64]), "bytes of"),
    "changed": (WEIGHTS, one_byte, "was changed"),
    "config": ("adapter_config.json", lambda p: p.write_text(p.read_text() + " "), "bytes of"),
    "missing": (WEIGHTS, Path.unlink, "is missing"),
}


@pytest.mark.parametrize("what", HARM)
def test_a_damaged_file_is_named(artifact: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, harm, said = HARM[what]
    harm(artifact / "adapter" / name)
    link = artifact.parent / "link"
    link.symlink_to(artifact / "adapter")
    for folder in (artifact / "adapter", link):
        with pytest.raises(InputError, match=rf"adapter/{name} .*{said}"):
            read_adapter_config(folder)
    monkeypatch.chdir(artifact / "adapter")
    with pytest.raises(InputError, match=said):
        read_adapter_config(Path())


COMMANDS = {
    "sample": ["sample", "--prompts", "MADE/prompts.jsonl", "--adapter", "ADAPTER"],
    "chain": ["sample", "--prompts", "MADE/prompts.jsonl", "--chain", "a=ADAPTER", "--chain", "none="],
    "eval": ["eval", "identity", "identity.maker=x", "--adapter", "ADAPTER"],
    "train below": ["train", "--data", "MADE/rows.jsonl", "--adapter", "ADAPTER"],
    "train on": ["train", "--data", "MADE/rows.jsonl", "lora.init=ADAPTER"],
    "export": ["export", "--adapter", "ADAPTER"],
    "merge": ["export", "--merge", "--adapter", "ADAPTER"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_it_before_a_model_is_loaded(
    made: Path, artifact: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_byte(artifact / "adapter" / WEIGHTS)

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    for module in ("sample.output_file", "sample.export", "finetune.local", "experiment.eval_command"):
        monkeypatch.setattr(f"sgtr_jax.{module}.load_model", loaded)
    words = [word.replace("MADE", str(made)).replace("ADAPTER", f"{artifact}/adapter") for word in COMMANDS[command]]
    out = artifact.parent / "out"
    assert main([*words, "--model", str(made / "m"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"adapter/{WEIGHTS} was changed" in error and "Traceback" not in error
    assert not out.exists() or not any(out.iterdir())


def test_what_is_as_it_was_is_read_and_what_has_no_seal_is_not_judged(artifact: Path) -> None:
    assert read_adapter_config(artifact / "adapter").rank == 4
    (artifact / "metrics.jsonl").write_text("")  # is no part of the adapter
    assert read_adapter_config(artifact / "adapter").rank == 4
    (artifact / RECORD).unlink()
    one_byte(artifact / "adapter" / WEIGHTS)
    assert read_adapter_config(artifact / "adapter").rank == 4
    # Neither a file of that name that another program wrote, nor a folder that no record names.
    (artifact / RECORD).write_text('{"lr": 1e-5}')
    check_part(artifact / "adapter")
    check_part(artifact / "nowhere")
    write_record(artifact, {})
    shutil.copytree(artifact / "adapter", artifact / "copy")
    one_byte(artifact / "copy" / WEIGHTS)
    check_part(artifact / "copy")


def test_a_damaged_record_is_no_reason_to_go_on(artifact: Path) -> None:
    record = artifact / RECORD
    whole = record.read_text()
    for text in (whole[:50], whole.replace('"bytes": ', '"bytes": 1', 1)):
        record.write_text(text)
        with pytest.raises(InputError, match=RECORD):
            read_adapter_config(artifact / "adapter")
