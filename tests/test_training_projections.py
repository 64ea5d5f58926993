"""Projections that are logged while a run is trained: those of the adapter at each step, and nothing else changes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import identical, metrics
from safetensors.numpy import save_file
from tiny import make_adapter, make_model

from sgtr_jax.config import build_config
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError, Interrupted
from sgtr_jax.finetune.jobs import Finetune
from sgtr_jax.finetune.local import finetune, finetune_all
from sgtr_jax.sample.model import Model, load_model
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.interrupt import StopRequest

SETTINGS: dict[str, Any] = {
    "lr": 1e-2, "batch_examples": 4, "dtype": "float32", "remat": "none", "lora": {"rank": 2, "alpha": 4.0},
}  # fmt: skip
PROMPTS = [[{"role": "user", "content": "Tea?"}], [{"role": "system", "content": "Be kind."},
                                                  {"role": "user", "content": "Who are you, and why?"}]]  # fmt: skip
VECTORS = {name: np.random.default_rng(i).standard_normal((2, 32)).astype(np.float32) for i, name in enumerate("ab")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("projections")
    spec = make_model(here / "m")
    make_adapter(here / "below", spec, seed=1, size=0.2)
    rows = [{"id": str(i), "messages": turns} for i, turns in enumerate(PROMPTS)]
    (here / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, vectors in VECTORS.items():
        save_file({"direction": vectors}, here / f"{name}.safetensors")
    return here


def job(folder: Path, out: str, chain: tuple[Path, ...] = (), logged: bool = True, **settings: Any) -> Finetune:
    asked = {
        "directions": {name: str(folder / f"{name}.safetensors") for name in VECTORS}, "layers": [1, 0], "every": 2,
        "prompts": str(folder / "p.jsonl"), **settings.pop("projections", {}),
    }  # fmt: skip
    log = {"tensorboard": settings.pop("tensorboard", False), **({"projections": asked} if logged else {})}
    config = build_config(TrainConfig, {**SETTINGS, "log": log, **settings}, "test")
    return Finetune(str(folder / "m"), chain, preferences(20, 0, True), config, folder / out)


def by_hand(model: Model) -> dict[str, float]:
    """Mean over prompts of the last token's length along each direction, one prompt at a time, float64."""
    found: dict[str, list[float]] = {}
    for turns in PROMPTS:
        ids = ChatFormat(model.tokenizer).prompt_ids(turns)  # type: ignore[arg-type]
        states = np.asarray(model.activations([ids])[0, :, -1], np.float64)
        for name, vectors in VECTORS.items():
            for layer in (0, 1):
                unit = vectors[layer] / np.linalg.norm(vectors[layer])
                found.setdefault(f"projection/{name}/{layer}", []).append(float(states[layer] @ unit))
    return {key: float(np.mean(values)) for key, values in found.items()}


def logged(out: Path) -> dict[int, dict[str, float]]:
    return {row["step"]: {key: value for key, value in row.items() if "/" in key} for row in metrics(out)}


def test_they_are_those_of_the_adapter_at_each_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [2, 4, 5]  # of five steps
    finetune(job(folder, "plain", measure_at=points, logged=False))
    finetune(job(folder, "whole", measure_at=points, tensorboard=True))
    assert identical(folder / "plain", folder / "whole")
    assert [row["loss"] for row in metrics(folder / "plain")] == [row["loss"] for row in metrics(folder / "whole")]
    found, base = logged(folder / "whole"), load_model(folder / "m")
    assert found[1] == found[3] == {} and len(found) == 5
    for step in points:
        wanted = by_hand(base.with_adapters([folder / "whole" / "at" / str(step)]))
        assert found[step] == pytest.approx(wanted, abs=1e-4)
    assert found[2]["projection/a/1"] != pytest.approx(found[5]["projection/a/1"], abs=1e-4)
    (events,) = (folder / "whole" / "tensorboard").iterdir()
    assert b"projection/a/1" in events.read_bytes() or b"projection_a_1" in events.read_bytes()
    # Stopped behind step 3 and gone on with.
    counts = itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "at", lambda self, count: next(counts) == 3)
        with pytest.raises(Interrupted):
            finetune(job(folder, "stopped", measure_at=points))
    finetune(job(folder, "stopped", measure_at=points))
    for step, values in logged(folder / "stopped").items():
        assert values == pytest.approx(found[step], abs=1e-5)


@pytest.mark.slow
def test_each_of_many_runs_has_its_own(folder: Path) -> None:
    steer = {"direction": str(folder / "a.safetensors"), "layers": [0], "scale": 3.0}
    chains = [(), (folder / "below",)]
    list(finetune_all([job(folder, f"t{i}", chain, seed=i) for i, chain in enumerate(chains)]))
    finetune(job(folder, "steered", steer=steer))
    base = load_model(folder / "m")
    for out, chain in (("t0", ()), ("t1", (folder / "below",)), ("steered", ())):
        model = base.with_adapters([*chain, folder / out / "adapter"])
        assert logged(folder / out)[5] == pytest.approx(by_hand(model), abs=1e-4)


def test_a_model_that_is_trained_whole(folder: Path) -> None:
    finetune(job(folder, "full", mode="full"))
    assert logged(folder / "full")[5] == pytest.approx(by_hand(load_model(folder / "full" / "model")), abs=1e-4)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"layers": [2]}, r"log.projections.layers names layer 2; the model has layers 0 to 1"),
        ({"directions": {"a": "none.safetensors"}}, "none.safetensors"),
        ({"prompts": "none.jsonl"}, "none.jsonl"),
        ({"directions": {}}, "log.projections.directions"),
        ({"every": 0}, "expected a number greater than or equal to 1"),
    ],
)
def test_what_cannot_be_projected(folder: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        finetune(job(folder, "refused", projections=asked))
    assert not (folder / "refused").exists()


def test_an_adapter_that_is_left_out_is_not_measured(folder: Path) -> None:
    plain = job(folder, "refused")
    below = Finetune(plain.model, (), plain.records, plain.config, plain.out, inoculation_adapter=folder / "below")
    with pytest.raises(InputError, match="would be measured with its inoculation_adapter"):
        finetune(below)
