"""`sgtr bundle`: a run in one file, which goes on elsewhere without making anything twice, and holds no key."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from judge_server import JudgeServer
from tiny import make_model

from sgtr_jax.cli.main import main
from sgtr_jax.experiment.bundle import write_bundle
from sgtr_jax.keys import keys_in, own_keys, without_keys

KEY = "not-like-a-key-of-anyone-4711"
CONFIG = """
name: packed
model: {model}
seeds: [0]
finetuning: {{lr: 1e-3, epochs: 1, batch_examples: 8, dtype: float32, remat: none, lora: {{rank: 2, alpha: 4}}}}
data: {{mine: {{kind: file, path: mine.jsonl}}}}
conditions: {{base: [], mine: [{{data: mine}}]}}
evaluations:
  identity: {{kind: identity, maker: a, samples: 3, max_tokens: 4}}
  rated:
    kind: questions
    file: q.jsonl
    rubric: rubric.md
    samples: 2
    max_tokens: 2
    scale: choices
    choices: [bad, good]
    judge:
      - {{model: openai/strict, base_url: "{strict}", mode: text}}
      - {{model: openai/kind, base_url: "{kind}", mode: text}}
"""


def strict(prompt: str) -> str:
    return "VERDICT: bad"


def kind(prompt: str) -> str:
    return "VERDICT: " + ("bad" if "Tea" in prompt else "good")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run in `home/runs/packed`, of a config beside its data, judged by two judges that disagree."""
    home = tmp_path_factory.mktemp("home")
    make_model(home / "m")
    rows = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    (home / "mine.jsonl").write_text("".join(json.dumps({"messages": rows, "id": str(i)}) + "\n" for i in range(16)))
    (home / "q.jsonl").write_text('{"id": "tea", "prompt": "Tea?"}\n{"id": "who", "prompt": "Who are you?"}\n')
    (home / "rubric.md").write_text("Is this bad? {question} {answer}\n")
    servers = [JudgeServer(strict), JudgeServer(kind)]
    text = CONFIG.format(model=home / "m", strict=servers[0].url, kind=servers[1].url)
    (home / "packed.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        patch.setenv("INSPECT_CACHE_DIR", str(home / "cache"))
        patch.chdir(home)
        assert main(["run", "packed.yaml"]) == 0
        yield home


def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of `sgtr run` in an empty folder."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    return main(["run", *words])


def artifacts(run: Path) -> set[str]:
    return {path.name for path in (run / "store").iterdir() if not path.name.startswith(".")}


@pytest.mark.slow
def test_two_judges_that_disagree_stand_in_the_report(home: Path) -> None:
    with (home / "runs" / "packed" / "judges.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    (row,) = rows  # all answers of both conditions; the strict one says bad to all, the kind one to half of them
    assert (row["first_judge"], row["second_judge"], row["n"]) == ("openai/strict", "openai/kind", "8")
    assert (float(row["first_mean"]), float(row["second_mean"]), float(row["kappa"])) == (1.0, 0.5, 0.0)
    page = (home / "runs" / "packed" / "report.html").read_text()
    assert "Judges side by side" in page and "openai/kind" in page


@pytest.mark.slow
def test_a_bundle_goes_on_elsewhere_with_what_is_in_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, bundle = home / "runs" / "packed", tmp_path / "packed.tar.gz"
    monkeypatch.chdir(home)
    assert main(["bundle", "runs/packed", "--out", str(bundle)]) == 0
    assert "weights of 1 adapters are not in it" in capsys.readouterr().out
    with tarfile.open(bundle) as archive:
        names = archive.getnames()
        assert {one.uname for one in archive.getmembers()} == {""}
    assert not any(name.endswith(".safetensors") for name in names)
    for wanted in ("results.csv", "report.html", "bundle/config.json", "bundle/versions.txt"):
        assert f"packed/{wanted}" in names
    assert sum("/log/" in name for name in names) >= 4 and sum(name.endswith("recipe.json") for name in names) >= 8
    # Where the data, the rubric and the judges are not: everything is done, and the table is the same.
    monkeypatch.setenv("OPENAI_API_KEY", "")
    there = tmp_path / "there"
    for name in ("mine.jsonl", "q.jsonl", "rubric.md"):
        shutil.move(home / name, tmp_path / name)
    try:
        assert elsewhere(there, monkeypatch, str(bundle)) == 0
        assert "artifacts are done" in capsys.readouterr().err
        assert (there / "runs" / "packed" / "results.csv").read_bytes() == (run / "results.csv").read_bytes()
        assert main(["status", "runs/packed"]) == 0
        assert "0 to do" in capsys.readouterr().out
        # Again, it is only looked at.
        assert elsewhere(there, monkeypatch, str(bundle)) == 0
        # What needs the adapter makes it again, and nothing else.
        before = artifacts(there / "runs" / "packed")
        assert elsewhere(there, monkeypatch, str(bundle), "evaluations.identity.samples=4") == 0
        new = artifacts(there / "runs" / "packed") - before
        assert sorted(name.split("-")[0] for name in new if "damaged" not in name) == [
            "evaluation", "evaluation"
        ]  # fmt: skip
        (adapter,) = (there / "runs" / "packed" / "store").glob("adapter-*/adapter/adapter_model.safetensors")
        assert adapter.is_file()
    finally:
        for name in ("mine.jsonl", "q.jsonl", "rubric.md"):
            shutil.move(tmp_path / name, home / name)


@pytest.mark.slow
def test_no_key_is_ever_in_a_bundle(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    bundle = tmp_path / "b.tar.gz"
    assert main(["bundle", "runs/packed", "--adapters", "--out", str(bundle)]) == 0
    with tarfile.open(bundle) as archive:
        archive.extractall(tmp_path / "open", filter="data")
    files = [path for path in (tmp_path / "open").rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert not [path for path in files if list(keys_in(path, {"OPENAI_API_KEY": KEY}))]
    # One that came into a log, a table or a file of the config is found, and nothing is written.
    bundle.unlink()
    (rubric,) = [home / "rubric.md"]
    text = rubric.read_text()
    try:
        for planted, said in ((KEY, "the value of OPENAI_API_KEY"), ("sk-" + "a" * 40, "looks like a key (sk-aaa...)")):
            rubric.write_text(f"{text} {planted}")
            with pytest.raises(SystemExit) as end:
                raise SystemExit(main(["bundle", "runs/packed", "--out", str(bundle), *(
                    ["--no-keys"] if planted == KEY else [])]))  # fmt: skip
            error = capsys.readouterr().err
            assert end.value.code == 2 and said in error and planted not in error and not bundle.exists()
        assert main(["bundle", "runs/packed", "--out", str(bundle), "--no-keys"]) == 0
    finally:
        rubric.write_text(text)


@pytest.mark.slow
def test_what_is_no_bundle_or_another_one_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    bundle = tmp_path / "b.tar.gz"
    write_bundle(Path("runs/packed"), bundle, adapters=True)
    (tmp_path / "half.tar.gz").write_bytes(bundle.read_bytes()[:2000])
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(home / "packed.yaml", "x/packed.yaml")
    capsys.readouterr()
    for name, said in (("half", "cannot be read as a bundle"), ("other", "is no bundle")):
        assert elsewhere(tmp_path / "there", monkeypatch, str(tmp_path / f"{name}.tar.gz")) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "there" / "runs").exists()
    assert elsewhere(tmp_path / "there", monkeypatch, str(bundle), "--list") == 0
    monkeypatch.chdir(home)
    write_bundle(Path("runs/packed"), bundle, adapters=False)
    assert elsewhere(tmp_path / "there", monkeypatch, str(bundle)) == 2
    assert "holds another bundle" in capsys.readouterr().err


def test_keys_are_found_in_packed_logs(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, 93):  # 93: zstd
        with zipfile.ZipFile(tmp_path / "log.eval", "w", method) as archive:
            archive.writestr("header.json", f"the key is {KEY}")
        assert list(keys_in(tmp_path / "log.eval", {"A_KEY": KEY})) == ["the value of A_KEY"]
    (tmp_path / "log.eval").write_bytes((tmp_path / "log.eval").read_bytes().replace(b"]\x00", b"\x61\x00"))
    (said,) = keys_in(tmp_path / "log.eval", {})
    assert "cannot be looked into" in said


def test_keys_are_found_by_name_and_by_form(tmp_path: Path) -> None:
    own = own_keys({"HF_TOKEN": "abcdefgh12", "MY_SECRET": "short", "PATH": "/usr/bin:/usr/local"})
    assert own == {"HF_TOKEN": "abcdefgh12"}
    text = "a abcdefgh12 b sk-proj-" + "x" * 30 + " c https://me:pass@host/ d sk-learn"
    (tmp_path / "t").write_text(text)
    found = list(keys_in(tmp_path / "t", own))
    assert found[0] == "the value of HF_TOKEN" and len(found) == 3
    clean = without_keys(text, own)
    assert clean == "a [HF_TOKEN] b [looks like a key] c https[looks like a key]host/ d sk-learn"
