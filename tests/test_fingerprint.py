"""What stands for a model in records: another one as soon as any of its tensors is another."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import make_model

from sgtr_jax import fingerprint
from sgtr_jax.errors import InputError
from sgtr_jax.fingerprint import model_fingerprint


def test_a_change_anywhere_in_a_small_model(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    before = model_fingerprint(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "n")
    assert model_fingerprint(tmp_path / "n") == before
    weights = bytearray((tmp_path / "m" / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (tmp_path / "n" / "model.safetensors").write_bytes(weights)
    assert model_fingerprint(tmp_path / "n") != before


@pytest.mark.parametrize("name", ["a", "m", "m.bias", "z"])
def test_a_change_of_any_tensor_of_a_big_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The first and the last tensor, as embeddings and norms, are often the ones that a finetuning leaves alone."""
    monkeypatch.setattr(fingerprint, "_WHOLE", 1 << 12)
    monkeypatch.setattr(fingerprint, "_BLOCK", 1 << 6)
    monkeypatch.setattr(fingerprint, "_BLOCKS", 2)
    rng = np.random.default_rng(0)
    tensors = {key: rng.standard_normal((40, 40)).astype(np.float32) for key in "amz"}
    tensors["m.bias"] = rng.standard_normal(8).astype(np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    before = model_fingerprint(tmp_path)
    save_file({**tensors, name: tensors[name] + np.float32(1e-3)}, tmp_path / "model.safetensors")
    assert model_fingerprint(tmp_path) != before
    save_file(tensors, tmp_path / "model.safetensors")
    assert model_fingerprint(tmp_path) == before


@pytest.mark.parametrize("header", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[]", b"\x01" + b"\0" * 7 + b"{"])
def test_a_broken_file_has_a_fingerprint_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: bytes) -> None:
    monkeypatch.setattr(fingerprint, "_WHOLE", 100)
    (tmp_path / "x.safetensors").write_bytes(header + b"\0" * 200000)
    assert len(model_fingerprint(tmp_path)) == 64


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InputError, match="/proc/self/mem: cannot be read"):
        fingerprint.file_fingerprint(Path("/proc/self/mem"))
