"""Many runs over one base: each is what it would have been alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ml_dtypes
import pytest
import runs
from runs import distance, identical, job, losses
from safetensors.numpy import load_file, save_file
from tiny import SEED, make_adapter, make_model

from sgtr_jax.cli.main import main
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import RunError
from sgtr_jax.finetune.local import finetune, finetune_all
from sgtr_jax.sample.model import read_spec
from sgtr_jax.train.stack import slots_for


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    make_model(folder)
    return folder


@pytest.mark.slow
def test_runs_of_different_data_seed_rate_and_length(model: Path, tmp_path: Path) -> None:
    settings = [(("seed=0",), 24), (("seed=1", "lr=3e-3"), 24), (("seed=2", "epochs=2"), 20), (("seed=3",), 9)]
    list(finetune_all([job(model, tmp_path / f"t{i}", *o, rows=n) for i, (o, n) in enumerate(settings)]))
    for i, (overrides, rows) in enumerate(settings):
        finetune(job(model, tmp_path / f"a{i}", *overrides, rows=rows))
        assert losses(tmp_path / f"t{i}") == pytest.approx(losses(tmp_path / f"a{i}"), rel=1e-5)
        assert distance(tmp_path / f"a{i}", tmp_path / f"t{i}") < 1e-4
        report = json.loads((tmp_path / f"t{i}" / "report.json").read_text())
        assert report["runs_at_once"] == 4 and report["steps"] == len(losses(tmp_path / f"a{i}"))
        assert 0 <= report["padding_share"] < 1 and report["tokens_per_second"] > 0
    assert [len(losses(tmp_path / f"t{i}")) for i in range(4)] == [3, 3, 6, 2]


def test_dropout_of_one_run_among_many(tmp_path: Path) -> None:
    make_model(tmp_path / "m", SEED, residual_dropout=0.1, attention_dropout=0.1)
    list(finetune_all([job(tmp_path / "m", tmp_path / f"t{i}", f"seed={i}", "lora.dropout=0.2") for i in range(3)]))
    finetune(job(tmp_path / "m", tmp_path / "a", "seed=1", "lora.dropout=0.2"))
    assert losses(tmp_path / "t1") == pytest.approx(losses(tmp_path / "a"), rel=1e-5)
    assert distance(tmp_path / "a", tmp_path / "t1") < 1e-4


def test_each_run_stands_on_a_chain_of_its_own(model: Path, tmp_path: Path) -> None:
    spec = read_spec(model)
    chains: list[tuple[Path, ...]] = [(), (tmp_path / "x",), (tmp_path / "x", tmp_path / "y")]
    make_adapter(tmp_path / "x", spec, seed=1, size=0.2)
    make_adapter(tmp_path / "y", spec, seed=2, size=0.2, rank=2, targets=("q_proj", "down_proj"))
    list(finetune_all([job(model, tmp_path / f"t{i}", chain=chain) for i, chain in enumerate(chains)]))
    for i, chain in enumerate(chains):
        finetune(job(model, tmp_path / f"a{i}", chain=chain))
        assert losses(tmp_path / f"t{i}") == pytest.approx(losses(tmp_path / f"a{i}"), rel=1e-5)
        assert distance(tmp_path / f"a{i}", tmp_path / f"t{i}") < 1e-4
    assert len({round(losses(tmp_path / f"t{i}")[0], 3) for i in range(3)}) == 3


def test_one_run_going_nan_leaves_the_others_as_they_were(model: Path, tmp_path: Path) -> None:
    wild = ("lr=1e30", "max_grad_norm=1e30", "warmup_steps=0")
    jobs = [job(model, tmp_path / name, "max_grad_norm=1e30", "warmup_steps=0", f"lr={lr}")
            for name, lr in (("good", "1e-2"), ("wild", "1e30"), ("fine", "1e-3"))]  # fmt: skip
    failures = {result.job.out.name: result.failure for result in finetune_all(jobs)}
    assert failures.pop("wild", "").startswith(f"{jobs[1].label}: step") and failures == {"good": None, "fine": None}
    assert (tmp_path / "wild" / "last_good").is_dir() and not (tmp_path / "wild" / "adapter").exists()
    finetune(job(model, tmp_path / "alone", "max_grad_norm=1e30", "warmup_steps=0"))
    assert losses(tmp_path / "good") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)
    assert distance(tmp_path / "alone", tmp_path / "good") < 1e-4
    assert (tmp_path / "fine" / "adapter").is_dir()
    with pytest.raises(RunError):
        finetune(job(model, tmp_path / "wild-alone", *wild))
    assert len(losses(tmp_path / "wild-alone")) == len(losses(tmp_path / "wild"))


@pytest.mark.slow
def test_how_many_at_once_follows_from_memory_or_is_set(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(name: str, *overrides: str) -> int:
        list(finetune_all([job(model, tmp_path / f"{name}{i}", f"seed={i}", *overrides) for i in range(4)]))
        number: int = json.loads((tmp_path / f"{name}0" / "report.json").read_text())["runs_at_once"]
        return number

    assert at_once("free") == 4
    assert at_once("set", "runs_at_once=3") == 3
    from sgtr_jax.distributed import memory
    from sgtr_jax.train import program

    needed: dict[int, int] = {}
    peak = memory.peak_bytes

    def spy(compiled: object) -> int:
        needed[len(needed)] = peak(compiled)
        return needed[len(needed) - 1]

    monkeypatch.setattr(program, "peak_bytes", spy)
    at_once("seen")
    # A device that has room for two of the four runs' program, and not for four.
    monkeypatch.setattr(program, "usable_memory", lambda mesh: int(0.6 * needed[0]))
    assert at_once("tight") in (1, 2)
    for i in range(4):
        assert distance(tmp_path / f"free{i}", tmp_path / f"tight{i}") < 1e-4


def test_remat_auto_takes_the_fastest_that_fits(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sgtr_jax.train.program import Programs

    asked: list[tuple[str, int]] = []
    room: set[tuple[str, int]] = set()

    def fits(self: Programs, runs: int, *_: object) -> bool:
        asked.append((self.remat, runs))
        return (self.remat, runs) in room

    monkeypatch.setattr(Programs, "fits", fits)
    found = []
    for fitting in ({("light", 2), ("none", 1)}, {("full", 1)}):
        asked.clear()
        room.clear()
        room.update(fitting)
        list(finetune_all([job(model, tmp_path / f"{len(found)}{i}", f"seed={i}", "remat=auto") for i in range(2)]))
        report = json.loads((tmp_path / f"{len(found)}0" / "report.json").read_text())
        found.append((report["remat"], report["runs_at_once"], len(asked)))
    # More runs at once come before less to compute again; what was asked first was the fastest.
    assert found == [("light", 2, 2), ("full", 1, 6)] and asked[0] == ("none", 2)
    assert distance(tmp_path / "00", tmp_path / "10") < 1e-4


def test_places_shrink_as_runs_end() -> None:
    assert [slots_for(5, n) for n in (5, 4, 3, 2, 1)] == [5, 5, 3, 2, 1]
    assert [slots_for(1, 1), slots_for(8, 5), slots_for(8, 4)] == [1, 8, 4]


def test_seeds_and_data_sets_from_the_command_line(model: Path, tmp_path: Path) -> None:
    for name, popular in (("up", True), ("down", False)):
        rows = [json.dumps(record.to_json()) for record in preferences(16, 0, popular)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    argv = ["train", "--model", str(model), "--out", str(tmp_path / "o"), *runs.FAST, "seeds=[0,1]"]
    argv += [word for name in ("up", "down") for word in ("--data", str(tmp_path / f"{name}.jsonl"))]
    assert main(argv) == 0
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["down-s0", "down-s1", "up-s0", "up-s1"]
    assert not identical(tmp_path / "o" / "up-s0", tmp_path / "o" / "up-s1")


def test_merging_below_is_the_merge_then_train_pipeline(model: Path, tmp_path: Path) -> None:
    """`merge: bfloat16` equals training on an exported, merged, bfloat16 model."""
    on_grid = {k: v.astype(ml_dtypes.bfloat16) for k, v in load_file(model / "model.safetensors").items()}
    model = Path(shutil.copytree(model, tmp_path / "m"))
    save_file(on_grid, model / "model.safetensors", {"format": "pt"})
    make_adapter(tmp_path / "x", read_spec(model), seed=1, size=0.01)
    finetune(job(model, tmp_path / "merged", "merge=bfloat16", chain=(tmp_path / "x",)))
    report = json.loads((tmp_path / "merged" / "report.json").read_text())
    (lost,) = report["merge_lost"]
    assert set(lost) == set(json.loads((tmp_path / "x" / "adapter_config.json").read_text())["target_modules"])
    assert all(0 < share < 1 for share in lost.values())
    out = tmp_path / "exported"
    argv = ["export", "--model", str(model), "--adapter", str(tmp_path / "x"), "--merge", "--dtype", "bfloat16"]
    assert main([*argv, "--out", str(out)]) == 0
    finetune(job(out, tmp_path / "by-hand"))
    assert losses(tmp_path / "merged") == pytest.approx(losses(tmp_path / "by-hand"), rel=1e-5)
    assert distance(tmp_path / "by-hand", tmp_path / "merged") < 1e-4
