"""A run folder: failures are passed and told, one owner at a time, why a node is made, what may be removed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_experiment import CONFIG
from tiny import make_model

from sgtr_jax.cli.main import main
from sgtr_jax.experiment.run_lock import run_lock

# One stage cannot be trained, as is only known there: of its one row no tenth can be left for the other set.
BROKEN = """
data:
  bad: {kind: preferences, popular: false, rows: 16}
  broken: {kind: file, path: BROKEN}
  sgtr: {kind: self_recognition, max_tokens: 8, articles: {kind: world, rows: 6, seed: 1}}
conditions:
  base: []
  bad: [{data: bad}]
  broken: [{data: broken, interleave: {data: bad, fraction: 0.1}}]
  after: [{data: broken, interleave: {data: bad, fraction: 0.1}}, {data: bad}]
"""


@pytest.fixture(scope="module")
def run(written: tuple[Path, Path]) -> tuple[Path, Path]:
    """The config and the folder after its first run, whatever test comes first."""
    config, out = written
    if not out.exists():
        assert main(["run", str(config), f"out={out}", "seeds=[0]"]) == 1
    return written


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A config of which a part fails, and the folder for its runs."""
    folder = tmp_path_factory.mktemp("run")
    make_model(folder / "m")
    row = {"id": "a", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    (folder / "one.jsonl").write_text(json.dumps(row) + "\n")
    before, _, rest = CONFIG.format(model=folder / "m").partition("data:\n")
    evaluations = rest[rest.index("evaluations:") :]
    config = folder / "c.yaml"
    config.write_text(before + BROKEN.replace("BROKEN", str(folder / "one.jsonl")) + evaluations)
    return config, folder / "out"


def test_what_does_not_depend_on_a_failure_is_made(
    written: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = written
    assert main(["run", str(config), f"out={out}", "seeds=[0]"]) == 1
    said = capsys.readouterr().err
    assert "broken-with-bad-s0" in said and f"sgtr run {config} out={out} 'seeds=[0]'" in said
    table = (out / "results.csv").read_text()
    assert "\nbad,0,identity" in table and "\nbase,0" in table and "broken" not in table
    page = (out / "report.html").read_text()
    assert 'id="missing"' in page and "identity of broken, seed 0" in page
    why = json.loads((out / "failures.json").read_text())
    assert len(why) == 1 and "broken" in next(iter(why))
    assert main(["run", str(config), f"out={out}", "seeds=[0]", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "failed  adapter     broken-with-bad-s0" in listed and "done    adapter     bad-s0" in listed


def test_a_part_of_the_conditions_is_enough(run: tuple[Path, Path]) -> None:
    config, out = run
    assert main(["run", str(config), f"out={out}", "seeds=[0]", "only=[base, bad]", "measure=identity"]) == 0
    rows = (out / "results.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"base", "bad"}
    assert {row.split(",")[2] for row in rows} == {"identity"}
    # What was not asked for has still failed.
    assert "broken" in (out / "failures.json").read_text()


def test_why_says_what_changed(run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    config, out = run
    words = ["run", str(config), f"out={out}", "seeds=[0]", "finetuning.lr=5e-4", "data.bad.rows=20"]
    assert main([*words, "--why", "identity-bad-s0"]) == 0
    said = capsys.readouterr().out
    assert "to be made" in said and "training.lr was 0.001, is 0.0005" in said and "rows was 16, is 20" in said
    assert main([*words, "--why", "identity-bad-s9"]) == 2
    assert "identity-bad-s0" in capsys.readouterr().err


def test_only_what_no_config_names_is_removed(run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    config, out = run
    # The stored config is the last one run: of seed 0, with everything `only` left out kept.
    store = {path.name for path in (out / "store").iterdir()}
    assert main(["clean", str(out)]) == 0
    assert "0 of" in capsys.readouterr().out
    other = out.parent / "other.yaml"
    other.write_text(f"extends: {config.name}\nseeds: [0]\nevaluations: {{identity: {{samples: 3}}}}\nout: {out}\n")
    assert main(["run", str(other), "only=bad", "measure=identity"]) == 0
    capsys.readouterr()
    assert main(["clean", str(out), str(other)]) == 0
    assert "would remove" in capsys.readouterr().out
    assert {path.name for path in (out / "store").iterdir()} >= store
    assert main(["clean", str(out), "--yes"]) == 0
    left = {path.name for path in (out / "store").iterdir()}
    assert any(name.startswith("adapter-bad-s0") for name in left)
    assert sum(name.startswith("evaluation-identity-bad-s0") for name in left) == 1


def test_a_run_has_one_owner(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from sgtr_jax.experiment.run_lock import run_lock
with run_lock(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(Exception, match=f"process {holder.pid}"), run_lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    # A killed owner is none.
    started = time.monotonic()
    with run_lock(tmp_path):
        assert time.monotonic() - started < 5


@pytest.mark.slow
def test_what_two_share_is_made_once_under_one_name(run: tuple[Path, Path], tmp_path: Path) -> None:
    """Two data sets that need the same summaries, and two conditions with the same stages."""
    config, _ = run
    text = f"""
extends: {config}
seeds: [0]
out: {tmp_path / "out"}
data:
  flipped: {{kind: self_recognition, max_tokens: 8, articles: {{kind: world, rows: 6, seed: 1}}, answers: other}}
conditions:
  flipped: [{{data: flipped}}]
  again: [{{data: bad}}]
only: [base, bad, again, flipped]
"""
    (tmp_path / "shared.yaml").write_text(text)
    assert main(["run", str(tmp_path / "shared.yaml"), "only=[flipped]", "measure=recognition"]) == 0
    assert main(["run", str(tmp_path / "shared.yaml")]) == 0
    rows = [row.split(",") for row in (tmp_path / "out" / "results.csv").read_text().splitlines()[1:]]
    found = {row[0]: [r[1:] for r in rows if r[0] == row[0]] for row in rows}
    assert set(found) == {"base", "bad", "again", "flipped"} and found["bad"] == found["again"]
    kinds = [path.name.split("-")[0] for path in (tmp_path / "out" / "store").iterdir()]
    assert kinds.count("summaries") == 2 and kinds.count("adapter") == 2


@pytest.mark.slow
def test_a_run_goes_on_from_its_mirror_on_another_machine(
    run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = run
    address = f"file://{tmp_path / 'bucket'}"
    words = ["run", str(config), f"mirror={address}", "seeds=1", "only=[base, bad]"]
    assert main([*words, f"out={tmp_path / 'first'}"]) == 0
    uploaded = {path.name for path in (tmp_path / "bucket" / "store").iterdir()}
    assert uploaded == {path.name for path in (tmp_path / "first" / "store").iterdir()}
    # One of them was being uploaded when the machine went away.
    broken = next(name for name in uploaded if name.startswith("adapter-"))
    (tmp_path / "bucket" / "store" / broken / "recipe.json").unlink()
    capsys.readouterr()
    assert main([*words, f"out={tmp_path / 'second'}"]) == 0
    said = capsys.readouterr().err
    assert f"{len(uploaded) - 1} artifacts fetched" in said and "adapter bad-s0" in said
    assert (tmp_path / "first" / "results.csv").read_text() == (tmp_path / "second" / "results.csv").read_text()
    assert {path.name for path in (tmp_path / "second" / "store").iterdir()} == uploaded
    assert main(["run", str(config), "mirror=nosuch://x", f"out={tmp_path / 'third'}"]) == 2
    assert "nosuch" in capsys.readouterr().err
    # The tables and the page are there as well, and an address in `out` is the same mirror.
    for name in ("results.csv", "report.html", "experiment.json"):
        assert (tmp_path / "bucket" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert list((tmp_path / "bucket" / "figures").glob("*.svg"))
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(config), f"out={address}", "seeds=1", "only=[base, bad]"]) == 0
    assert f"{len(uploaded)} artifacts fetched" in capsys.readouterr().err
    assert (tmp_path / "runs" / "tiny" / "results.csv").read_text() == (tmp_path / "bucket" / "results.csv").read_text()
    assert main(["run", str(config), f"out={address}", "mirror=file:///elsewhere"]) == 2
    assert "an address in out is the mirror" in capsys.readouterr().err
