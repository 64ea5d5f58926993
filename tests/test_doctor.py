"""The doctor finds what is wrong and shows no secret."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

from sgtr_jax.cli.main import main


def test_every_check_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_mine=1")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "ok       product and sum on every device" in said and "ok       devices" in said
    assert "ok       compiler options: for training steps: none; LIBTPU_INIT_ARGS: --xla_mine=1" in said
    assert "PROBLEM  Hugging Face hub" in said and "mirror" in said and "1 problem" in said
    assert "there: OPENAI_API_KEY" in said and "secret" not in said


def test_a_full_disk_is_a_problem(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 10**9))
    assert main(["doctor"]) == 1
    assert "PROBLEM  disk: 1 GB free" in capsys.readouterr().out
