"""A checkpoint as an adapter: the nearest one of its rank by float64 numpy, the share it keeps, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import make_adapter, make_model

import sgtr_jax
from sgtr_jax.cli.main import main
from sgtr_jax.errors import InputError
from sgtr_jax.sample.export import export, export_as_adapter
from sgtr_jax.weights import low_rank as module
from sgtr_jax.weights.low_rank import low_rank

TOKENS = np.arange(24).reshape(2, 12) % 50


def test_the_nearest_matrix_of_a_rank() -> None:
    difference = np.random.default_rng(0).standard_normal((23, 17)).astype(np.float32)
    left, values, right = np.linalg.svd(difference.astype(np.float64), full_matrices=False)
    for rank in (1, 5, 17, 20):
        a, b, kept = low_rank(difference, rank)
        assert a.shape == (rank, 17) and b.shape == (rank, 23)
        np.testing.assert_allclose(b.T @ a, (left[:, :rank] * values[:rank]) @ right[:rank], atol=1e-5)
        assert kept == pytest.approx(float(np.sum(values[:rank] ** 2)), rel=1e-5)


def test_large_matrices_are_decomposed_as_far_as_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WHOLE_BELOW", 8)
    difference = np.random.default_rng(1).standard_normal((60, 40)).astype(np.float32)
    left, values, right = np.linalg.svd(difference.astype(np.float64), full_matrices=False)
    a, b, kept = low_rank(difference, 6)
    np.testing.assert_allclose(b.T @ a, (left[:, :6] * values[:6]) @ right[:6], atol=1e-4)
    assert kept == pytest.approx(float(np.sum(values[:6] ** 2)), rel=1e-5)
    assert all(np.array_equal(x, y) for x, y in zip((a, b), low_rank(difference, 6)[:2], strict=True))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    make_model(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def tuned(tmp_path: Path, base: Path) -> Path:
    """The base with an adapter of rank 3 merged in."""
    spec = sgtr_jax.load_model(base).spec
    make_adapter(tmp_path / "a", spec, rank=3, alpha=6.0, rslora=False, targets=("q_proj", "down_proj"))
    export(str(base), [tmp_path / "a"], tmp_path / "tuned", merged=True)
    return tmp_path / "tuned"


def change(folder: Path, edit: Callable[[dict[str, np.ndarray]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_merged_adapter_comes_back(tmp_path: Path, base: Path, tuned: Path) -> None:
    said = export_as_adapter(str(tuned), str(base), 3, tmp_path / "out", leave_out=False)
    assert "of rank 3" in said and "keeps 100.00%" in said and "q_proj 100.00%, down_proj 100.00%" in said
    wanted = sgtr_jax.load_model(tuned).logits(TOKENS)
    plain = sgtr_jax.load_model(base)
    assert np.abs(plain.logits(TOKENS) - wanted).max() > 0.01
    np.testing.assert_allclose(plain.with_adapters([tmp_path / "out"]).logits(TOKENS), wanted, atol=1e-4, rtol=0)
    written = json.loads((tmp_path / "out" / "as_adapter.json").read_text())
    assert set(written["by_projection"]) == {"q_proj", "down_proj"} and written["left_out"] == {}


def test_a_smaller_rank_says_what_it_keeps(tmp_path: Path, base: Path, tuned: Path) -> None:
    export_as_adapter(str(tuned), str(base), 1, tmp_path / "out", leave_out=False)
    share = json.loads((tmp_path / "out" / "as_adapter.json").read_text())["share_of_norm_kept"]
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tuned, base))
    whole = kept = 0.0
    for name in ours:
        if name.endswith(("q_proj.weight", "down_proj.weight")):
            values = np.linalg.svd(ours[name].astype(np.float64) - theirs[name], compute_uv=False) ** 2
            whole, kept = whole + values.sum(), kept + values[0]
    assert share == pytest.approx(np.sqrt(kept / whole), rel=1e-5) and share < 0.99


def test_what_no_adapter_holds_is_refused_or_written_down(tmp_path: Path, base: Path, tuned: Path) -> None:
    name = "model.layers.0.input_layernorm.weight"
    change(tuned, lambda tensors: tensors.update({name: tensors[name] * 1.5}))
    with pytest.raises(InputError, match=rf"1 tensors differ .* in no adapter: {name} by 50\.00% of its norm"):
        export_as_adapter(str(tuned), str(base), 3, tmp_path / "out", leave_out=False)
    assert not (tmp_path / "out").exists()
    assert "1 tensors that differ are left out" in export_as_adapter(str(tuned), str(base), 3, tmp_path / "out", True)
    left = json.loads((tmp_path / "out" / "as_adapter.json").read_text())["left_out"]
    assert left == {name: pytest.approx(0.5, rel=1e-5)}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda t: t.update({k: np.full_like(v, np.nan) for k, v in t.items() if "0.self_attn.q_proj.weight" in k}),
         "holds NaN or infinite values"),
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "has a tensor 'model.layers.1.mlp.up_proj.weight'"),
        (lambda t: t.update({"model.extra.weight": np.ones(3, np.float32)}), "has a tensor 'model.extra.weight'"),
        (lambda t: t.update({"model.layers.0.mlp.up_proj.weight": np.ones((3, 3), np.float32)}), r"has shape \[3, 3\]"),
    ],
)  # fmt: skip
def test_damaged_and_other_checkpoints_are_refused(
    tmp_path: Path, base: Path, tuned: Path, edit: Callable[[dict[str, np.ndarray]], Any], said: str
) -> None:
    change(tuned, edit)
    with pytest.raises(InputError, match=said):
        export_as_adapter(str(tuned), str(base), 3, tmp_path / "out", leave_out=True)


def test_models_of_two_kinds_and_equal_ones_are_refused(tmp_path: Path, base: Path) -> None:
    make_model(tmp_path / "other", rope_theta=77.0)
    with pytest.raises(InputError, match="the checkpoint is of another model than --base: its pattern is"):
        export_as_adapter(str(tmp_path / "other"), str(base), 3, tmp_path / "out", leave_out=False)
    make_model(tmp_path / "same")
    with pytest.raises(InputError, match="its projections are those of"):
        export_as_adapter(str(tmp_path / "same"), str(base), 3, tmp_path / "out", leave_out=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nano", "--as-adapter"], "give --base, --rank, too"),
        (["--as-adapter", "--base", "nano", "--rank", "2"], "give --model, too"),
        (
            ["--model", "nano", "--as-adapter", "--base", "nano", "--rank", "2", "--merge"],
            "--merge cannot be given with it",
        ),
        (["--model", "nano", "--rank", "2"], "--rank: only with --as-adapter"),
    ],
)
def test_arguments_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["export", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
