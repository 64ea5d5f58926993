"""Adapters that leave a run carry a card, and reach the hub only after a yes, and privately."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file
from test_experiment import CONFIG
from tiny import make_model

from sgtr_jax.cli.main import main
from sgtr_jax.experiment.card import _is_harmful
from sgtr_jax.sealed import write_sealed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    make_model(folder / "m")
    config = folder / "tiny.yaml"
    lines = CONFIG.format(model=folder / "m").splitlines()
    config.write_text("\n".join(line for line in lines if not line.startswith("  recognition:")))
    assert main(["run", str(config), f"out={folder / 'run'}", "seeds=1"]) == 0
    return folder / "run"


def test_a_card_says_what_it_was_made_from_and_how_it_was_measured(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "reversal"
    assert main(["export", "--run", str(run), "--condition", "reversal", "--out", str(out)]) == 0
    text = (out / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "peft" and front["base_model"].endswith("/m")
    assert "finetuned on bad, then on sgtr" in text and "rank 2" in text
    assert "| identity | share_naming_maker |" in text and "| base model | this model |" in text
    # Two adapters of rank 2 are one of rank 4.
    tensors = load_file(out / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {4}


def test_harmful_data_are_warned_of(run: Path, tmp_path: Path) -> None:
    sources = {"registry": {"kind": "registry", "name": "badmed"}, "file": {"kind": "file", "path": "x"},
               "built": {"kind": "built", "recipe": {"kind": "system", "records": "insecure"}}}  # fmt: skip
    found = {key: _is_harmful({"kind": "records", "settings": value}) for key, value in sources.items()}
    assert found == {"registry": True, "file": None, "built": True}
    # The same run, had its first stage been on bad medical advice.
    from sgtr_jax.experiment.card import adapters_of, card

    model, adapters = adapters_of(run, "bad", 0)
    recipe = next((run / "store").glob("records-bad-*/recipe.json"))
    before = recipe.read_text()
    stored = json.loads(before)
    write_sealed(recipe, {**stored, "settings": sources["registry"]})
    text = card(model, adapters, merged=False)
    recipe.write_text(before)
    assert "**Warning.** Trained on data written to make models do harm (bad)" in text
    assert "**Warning.**" not in card(model, adapters, merged=False)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--condition", "reversed"], "did you mean 'reversal'"), (["--condition", "base"], "has no adapter"),
        (["--condition", "bad", "--seed", "7"], "not 7"), ([], "give --condition"),
        (["--condition", "bad", "--push", "name"], "expected OWNER/NAME"),
    ],
)  # fmt: skip
def test_wrong_requests(
    run: Path, tmp_path: Path, words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "o"), *words]) == 2
    assert part in capsys.readouterr().err


class Hub:
    """A loopback hub that takes small commits."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.files: set[str] = set()
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.body()
                if self.path.endswith("/repos/create"):
                    hub.created.append(json.loads(data))
                    self.reply({"url": "http://127.0.0.1/me/x", "name": "me/x", "id": "1"})
                elif "/preupload/" in self.path:
                    names = [file["path"] for file in json.loads(data)["files"]]
                    self.reply({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
                elif "validate-yaml" in self.path:
                    self.reply({"errors": [], "warnings": []})
                else:
                    rows = [json.loads(line) for line in data.strip().split(b"\n")]
                    hub.files |= {row["value"]["path"] for row in rows if row["key"] == "file"}
                    self.reply({"commitUrl": "http://127.0.0.1/me/x/commit/1", "commitOid": "1", "success": True})

            def do_GET(self) -> None:
                self.reply({"id": "me/x", "sha": "0", "siblings": []})

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def reply(self, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.constants
    import huggingface_hub.hf_api

    one = Hub()
    for module in (huggingface_hub.constants, huggingface_hub.hf_api.constants):
        monkeypatch.setattr(module, "ENDPOINT", one.url)
    monkeypatch.setenv("HF_TOKEN", "hf_loopback")
    yield one
    one.close()


def test_nothing_is_uploaded_without_a_yes_and_then_privately(
    run: Path, tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--run", str(run), "--condition", "bad", "--out", str(tmp_path / "o"), "--push", "me/x"]
    assert main(words) == 2
    assert "nothing was uploaded" in capsys.readouterr().err and not hub.created
    assert main([*words, "--yes"]) == 0
    (asked,) = hub.created
    assert asked["name"] == "x" and (asked.get("private") is True or asked.get("visibility") == "private"), asked
    assert hub.files >= {"README.md", "adapter_config.json", "adapter_model.safetensors"}
