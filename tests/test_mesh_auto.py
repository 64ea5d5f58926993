"""`mesh: auto` and `profile`: what is chosen, said and recorded, and that nothing of the outcome depends on it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from runs import distance, job, losses
from tiny import make_model

from sgtr_jax.errors import RunError
from sgtr_jax.estimate.slices import CHIPS, UNKNOWN, chip_of
from sgtr_jax.finetune.local import finetune_all


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    make_model(folder)
    return folder


def test_the_choice_is_made_said_and_recorded(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list(finetune_all([job(model, tmp_path / "auto", "mesh=auto")]))
    list(finetune_all([job(model, tmp_path / "one")]))
    report = json.loads((tmp_path / "auto" / "report.json").read_text())
    considered = report["meshes_considered"]
    # The model's two key-value heads allow two meshes of eight devices.
    assert sorted(one["mesh"] for one in considered) == [[1, 4, 2], [1, 8, 1]]
    assert list(report["mesh"].values()) == considered[0]["mesh"]
    moved = [one["gb_moved"] for one in considered]
    assert moved == sorted(moved) and moved[0] > 0
    assert "mesh (replica, fsdp, tensor), fastest first: (1," in capsys.readouterr().err
    assert losses(tmp_path / "auto") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert distance(tmp_path / "one", tmp_path / "auto") < 1e-3


def test_what_fits_nowhere_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sgtr_jax.finetune import auto_mesh

    small = CHIPS["v5e"].__class__(1e-6, 197, 819, 200)
    monkeypatch.setattr(auto_mesh, "chip_of", lambda *_: small)
    with pytest.raises(RunError, match="no mesh of 8 devices fits"):
        list(finetune_all([job(model, tmp_path / "o", "mesh=auto")]))


def test_devices_by_the_names_jax_gives_them() -> None:
    assert chip_of("TPU v5 lite") is CHIPS["v5e"] and chip_of("TPU v6 lite") is CHIPS["v6e"]
    assert chip_of("cpu") is UNKNOWN and math.isinf(UNKNOWN.memory_gib)


def test_some_steps_are_traced(model: Path, tmp_path: Path) -> None:
    list(finetune_all([job(model, tmp_path / "o", "profile={start: 2, steps: 1}")]))
    traces = list((tmp_path / "o" / "profile").rglob("*.xplane.pb"))
    assert len(traces) == 1 and traces[0].stat().st_size > 0
    list(finetune_all([job(model, tmp_path / "p")]))
    assert losses(tmp_path / "o") == losses(tmp_path / "p") and not (tmp_path / "p" / "profile").exists()
