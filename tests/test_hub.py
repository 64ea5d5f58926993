"""Models by hub id, from a hub on this machine that breaks connections off. The client is Hugging Face's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hub
import pytest
from tiny import make_model

Sgtr = Callable[..., tuple[int, str]]
CHUNK = 10 * 2**20  # what the client keeps of a broken answer is whole chunks


@pytest.fixture
def sgtr(tmp_path: Path) -> Sgtr:
    """Exit code and standard error of a command of a process of its own: addresses are read when the client starts."""

    def run(served: hub.Hub, *words: str) -> tuple[int, str]:
        settings = {"HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        ended = subprocess.run(
            [sys.executable, "-m", "sgtr_jax.cli", *words],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return ended.returncode, ended.stderr

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model with a file of three chunks that nothing reads."""
    make_model(tmp_path / "m")
    (tmp_path / "m" / "more.json").write_bytes(os.urandom(3 * CHUNK))
    return tmp_path / "m"


def command(tmp_path: Path, name: str, out: str) -> list[str]:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"id": "a", "messages": [{"role": "user", "content": "Who are you?"}]}\n')
    return ["sample", "--model", name, "--prompts", str(prompts), "--out", str(tmp_path / out), "--max-tokens", "4"]


def asked_for(served: hub.Hub, name: str) -> list[str]:
    """The ranges that were asked for of a file, in order."""
    return [wanted for method, path, wanted in served.asked if method == "GET" and path.endswith(name)]


def test_a_model_from_the_hub_is_that_of_its_folder(sgtr: Sgtr, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    make_model(folder)
    with hub.serve(folder) as served:
        for name, out in (("owner/name", "from-hub"), (str(folder), "from-folder")):
            code, error = sgtr(served, *command(tmp_path, name, out))
            assert code == 0, error
        assert asked_for(served, "/model.safetensors") == [""]
    texts = [(tmp_path / out).read_text() for out in ("from-hub", "from-folder")]
    assert texts[0].replace("owner/name", str(folder)) == texts[1]


def test_a_broken_download_goes_on_where_it_broke(sgtr: Sgtr, model: Path, tmp_path: Path) -> None:
    with hub.serve(model) as served:
        served.breaks["more.json"] = [CHUNK + CHUNK // 2]
        code, error = sgtr(served, *command(tmp_path, "owner/name", "o"))
        assert code == 0, error
        assert asked_for(served, "/more.json") == ["", f"bytes={CHUNK}-"]


@pytest.mark.slow
def test_a_download_that_stays_broken_is_a_failure_and_files_that_came_are_kept(
    sgtr: Sgtr, model: Path, tmp_path: Path
) -> None:
    with hub.serve(model) as served:
        served.breaks["more.json"] = [0] * 20
        code, error = sgtr(served, *command(tmp_path, "owner/name", "o"))
        assert code == 1 and "the download broke off" in error and "same command goes on" in error
        assert "Traceback" not in error
        served.breaks.clear()
        served.asked.clear()
        code, error = sgtr(served, *command(tmp_path, "owner/name", "o"))
        assert code == 0, error
        assert asked_for(served, "/more.json") == [""] and asked_for(served, "/model.safetensors") == []


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (403, "GatedRepo", "must have been let in"),
        (404, "RepoNotFound", "nor a repository on the hub"),
        (500, "", "the hub cannot be reached"),
    ],
)
def test_a_hub_that_refuses_is_a_mistake_of_the_input(
    sgtr: Sgtr, tmp_path: Path, status: int, reason: str, said: str
) -> None:
    folder = tmp_path / "m"
    make_model(folder)
    with hub.serve(folder) as served:
        served.refusal = (status, reason)
        code, error = sgtr(served, *command(tmp_path, "owner/name", "o"))
    assert code == 2 and said in error and "Traceback" not in error, error
