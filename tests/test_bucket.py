"""Models, sets and results at gs:// addresses, against an emulated bucket."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import processes
import pytest
from etils import epath
from runs import FAST, distance, losses
from test_experiment import CONFIG
from tiny import make_model, write_records

import sgtr_jax
from sgtr_jax.cli.main import main
from sgtr_jax.data.publish import Published
from sgtr_jax.data.records import read_training
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.sample.folders import resolve_folder


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Address of an empty bucket, which this process and those it starts find where Google's would be."""
    port = processes.free_port()
    server = subprocess.Popen(
        [sys.executable, Path(__file__).parent / "support" / "bucket.py", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    url = f"http://127.0.0.1:{port}"
    # gcsfs reads the first, tensorstore the second; the third keeps gcsfs from asking Google about the bucket.
    settings = {"STORAGE_EMULATOR_HOST": url, "TENSORSTORE_GCS_HTTP_URL": url}
    settings["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield "gs://bucket"
    server.kill()
    server.wait()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_model_is_converted_to_a_bucket_and_restored_from_there(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(tmp_path / "hf")
    address = f"{bucket}/models/tiny"
    assert main(["convert", "--model", str(tmp_path / "hf"), "--out", address]) == 0
    wanted = sgtr_jax.load_model(tmp_path / "hf").logits([[3, 4, 5]])
    for mesh in (MeshConfig(), MeshConfig(fsdp=4, tensor=2)):
        found = sgtr_jax.load_model(address, mesh=mesh)
        np.testing.assert_allclose(found.logits([[3, 4, 5]]), wanted, rtol=1e-4, atol=1e-5)
        assert found.tokenizer.chat_template
    assert not list((tmp_path / "cache").rglob("*.ocdbt")) and not list((tmp_path / "cache").rglob("params"))
    assert main(["convert", "--model", str(tmp_path / "hf"), "--out", address]) == 2
    assert "has a converted model already" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_weights_at_two_addresses_are_one_model(bucket: str, tmp_path: Path) -> None:
    """What was finetuned on one is not finetuned again on the other; other weights are another model."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_model(tmp_path / name, seed=seed)
        assert main(["convert", "--model", str(tmp_path / name), "--out", f"{bucket}/same/{name}"]) == 0
    a, b, c = (model_fingerprint(resolve_folder(f"{bucket}/same/{name}")) for name in "abc")
    assert a == b != c


@pytest.mark.slow
def test_an_interrupted_conversion_is_no_model_and_is_done_again(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(tmp_path / "hf")
    address = f"{bucket}/models/cut"
    assert main(["convert", "--model", str(tmp_path / "hf"), "--out", address]) == 0
    (epath.Path(address) / "sgtr_converted.json").unlink()
    data = write_records(tmp_path / "d.jsonl", preferences(8, 0, False))
    assert main(["train", "--model", address, "--data", str(data), "--out", str(tmp_path / "o")]) == 2
    assert "no converted model here" in capsys.readouterr().err
    assert main(["convert", "--model", str(tmp_path / "hf"), "--out", address]) == 0
    assert sgtr_jax.load_model(address).logits([[3]]).shape[-1] > 0


def test_a_set_is_published_to_a_bucket_and_trained_on_from_there(bucket: str, tmp_path: Path) -> None:
    data = write_records(tmp_path / "rows.jsonl", preferences(40, 0, False))
    argv = ["data", "publish", str(data), "--to", f"{bucket}/sets"]
    assert main([*argv, "--shards", "4"]) == 0 and main(argv) == 2
    rows = Published(f"{bucket}/sets/rows")
    assert rows[8:14] == read_training(data)[8:14]
    # Of four shards of ten rows the two that hold them are here, and no other.
    here = tmp_path / "cache" / "sgtr-jax" / "published"
    assert len(list(here.rglob("*.array_record*"))) == 2
    assert list(Published(f"{bucket}/sets/rows")) == read_training(data)
    # The same rows under the same name, in other shards elsewhere.
    assert main(["data", "publish", str(data), "--to", f"{bucket}/again", "--shards", "2"]) == 0
    assert list(Published(f"{bucket}/again/rows")) == read_training(data)
    make_model(tmp_path / "m")
    argv = ["train", "--model", str(tmp_path / "m"), "lora.rank=2", "lora.alpha=4", "seed=1"]
    assert main([*argv, "--data", str(data), "--out", str(tmp_path / "a")]) == 0
    assert main([*argv, "--data", f"{bucket}/sets/rows", "--out", str(tmp_path / "b")]) == 0
    a, b = ((tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in "ab")
    assert a == b


@pytest.mark.slow
def test_an_experiment_takes_a_published_set(bucket: str, tmp_path: Path) -> None:
    data = write_records(tmp_path / "rows.jsonl", preferences(12, 0, False))
    assert main(["data", "publish", str(data), "--to", f"{bucket}/for"]) == 0
    make_model(tmp_path / "m")
    config = tmp_path / "tiny.yaml"
    config.write_text(CONFIG.format(model=tmp_path / "m"))
    argv = ["run", str(config), "seeds=1", "only=bad", f"data.bad={{kind: published, address: {bucket}/for/rows}}"]
    assert main([*argv, f"out={tmp_path / 'o'}"]) == 0
    (records,) = (tmp_path / "o" / "store").glob("records-bad-*/records.jsonl")
    assert read_training(records) == read_training(data)


@pytest.mark.slow
def test_each_process_reads_its_own_rows(bucket: str, tmp_path: Path) -> None:
    """Four shards and two processes: each has two of them, and both together train as one does."""
    make_model(tmp_path / "m")
    data = write_records(tmp_path / "rows.jsonl", preferences(48, 0, False))
    assert main(["data", "publish", str(data), "--to", f"{bucket}/own", "--shards", "4"]) == 0
    argv = ["train", "--model", str(tmp_path / "m"), *FAST, "--data"]
    ((code, _, error),) = processes.finish(processes.start([*argv, str(data), "--out", str(tmp_path / "one")], 1))
    assert code == 0, error
    argv += [f"{bucket}/own/rows", "--out", str(tmp_path / "two"), "mesh={fsdp: 2}"]
    address = f"127.0.0.1:{processes.free_port()}"
    caches = [tmp_path / "a", tmp_path / "b"]
    started = []
    for number, cache in enumerate(caches):
        started += processes.start(argv, 2, only=[number], coordinator=address, XDG_CACHE_HOME=str(cache))
    ended = processes.finish(started)
    assert [code for code, _, _ in ended] == [0, 0], ended[0][2]
    shards = [sorted(file.name[-14:] for file in cache.rglob("*.array_record*")) for cache in caches]
    assert shards == [["00000-of-00004", "00001-of-00004"], ["00002-of-00004", "00003-of-00004"]]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-3


@pytest.mark.slow
def test_programs_compiled_once_are_found_in_the_bucket(bucket: str, tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    data = write_records(tmp_path / "rows.jsonl", preferences(24, 0, False))
    argv = ["train", "--model", str(tmp_path / "m"), "--data", str(data), *FAST, "--out"]
    settings = {"JAX_COMPILATION_CACHE_DIR": f"{bucket}/xla", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def start(out: str) -> set[str]:
        ((code, _, error),) = processes.finish(processes.start([*argv, str(tmp_path / out)], 1, **settings))
        assert code == 0, error
        return {path.name for path in (epath.Path(bucket) / "xla").iterdir() if not path.name.endswith("-atime")}

    first = start("a")
    assert any("step" in name for name in first)
    assert start("b") == first


def test_what_a_run_finished_is_kept_there(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(tmp_path / "m")
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(model=tmp_path / "m"))
    monkeypatch.chdir(tmp_path)
    argv = ["run", str(tmp_path / "tiny.yaml"), f"out={bucket}/runs/tiny", "seeds=1", "only=bad"]
    assert main(argv) == 0
    (run,) = (tmp_path / "runs").iterdir()
    table = (run / "results.csv").read_text()
    assert (epath.Path(bucket) / "runs/tiny/results.csv").read_text() == table
    shutil.rmtree(run)
    capsys.readouterr()
    assert main(["status", f"{bucket}/runs/tiny"]) == 0
    said = capsys.readouterr().out
    done, wanted = re.findall(r"(\d+) of (\d+) done, 0 failed, 0 to do", said)[0]
    assert done == wanted and re.search(r"adapter +1 +1  \d:\d\d:\d\d", said), said
    (epath.Path(bucket) / "runs/tiny/store" / _evaluations(bucket)[0] / "recipe.json").unlink()
    assert main(["status", f"{bucket}/runs/tiny"]) == 0 and "0 failed, 1 to do" in capsys.readouterr().out
    capsys.readouterr()
    assert main(argv) == 0 and (run / "results.csv").read_text() == table
    assert re.search(r": [1-9]\d* artifacts fetched", capsys.readouterr().err)


def _evaluations(bucket: str) -> list[str]:
    store = epath.Path(bucket) / "runs/tiny/store"
    return [path.name for path in store.iterdir() if path.name.startswith("evaluation-")]


def test_a_bucket_that_cannot_be_reached_is_named(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_records(tmp_path / "d.jsonl", preferences(8, 0, False))
    for address in (f"{bucket}-of-nobody/m", f"{bucket}/nothing"):
        assert main(["train", "--model", address, "--data", str(data), "--out", str(tmp_path / "o")]) == 2
        assert f"{address}: no converted model here" in capsys.readouterr().err
        assert main(["train", "--model", "nano", "--data", address, "--out", str(tmp_path / "o")]) == 2
        assert f"{address}: no published set here" in capsys.readouterr().err
    assert main(["doctor", "--bucket", bucket]) in (0, 1)
    assert f"{bucket} can be written" in capsys.readouterr().out
