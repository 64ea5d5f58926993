"""`sgtr plan`: what it counts, what it says of slices, and what it compiles for them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sgtr_jax.cli.main import main
from sgtr_jax.errors import InputError
from sgtr_jax.estimate.fit import meshes
from sgtr_jax.estimate.slices import CHIPS, UNKNOWN, chip_of, find_slice
from sgtr_jax.models.families import spec_from_config

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize(
    ("name", "chips", "topology"),
    [
        ("v5e-16", 16, "v5e:4x4"), ("v5litepod-16", 16, "v5e:4x4"), ("v5e-1", 1, "v5e:1x1"), ("v6e-8", 8, "v6e:2x4"),
        ("v4-16", 8, "v4:2x2x2"), ("v4-32", 16, "v4:2x2x4"), ("v5p-8", 4, "v5p:2x2x1"), ("v5p-16", 8, "v5p:2x2x2"),
        ("v6e:2x4", 8, "v6e:2x4"), ("V5E-32", 32, "v5e:4x8"),
    ],
)  # fmt: skip
def test_slices_by_the_names_people_rent_them_under(name: str, chips: int, topology: str) -> None:
    found = find_slice(name)
    assert (found.chips, found.topology) == (chips, topology)


@pytest.mark.parametrize(
    ("name", "gb_s"),
    [
        # A corner of 4x4 or 2x4 has one link on each axis, of four; from 16 chips on an axis is a ring.
        ("v5e-16", 100), ("v5e-256", 200), ("v5e-128", 150), ("v6e-8", 200), ("v6e-256", 400), ("v5e-1", 200),
        # One link on each of three axes, of six; a cube of 4x4x4 has all of them.
        ("v4-32", 150), ("v4-128", 300), ("v5p-16", 300), ("v5p-8", 200), ("v5p-128", 600),
    ],
)  # fmt: skip
def test_links_of_a_corner(name: str, gb_s: float) -> None:
    assert find_slice(name).chip.link_gb_s == gb_s


def test_links_by_the_places_of_devices() -> None:
    grid = [(x, y, 0) for x in range(4, 8) for y in range(4)]
    assert chip_of("TPU v5 lite", grid) == find_slice("v5e-16").chip
    assert chip_of("TPU v6 lite", []) is CHIPS["v6e"] and chip_of("cpu", [(0, 0, 0)]) is UNKNOWN


@pytest.mark.parametrize("name", ["v5e", "v5e-3", "v9x-8", "v4-7", "16", "", "v5e-16-8"])
def test_a_slice_that_does_not_exist(name: str) -> None:
    with pytest.raises(InputError, match="topology"):
        find_slice(name)


def test_meshes_divide_the_model() -> None:
    small = json.loads((CONFIGS / "models" / "Qwen2.5-0.5B-Instruct.json").read_text())
    large = json.loads((CONFIGS / "models" / "Qwen2.5-32B-Instruct.json").read_text())
    assert list(meshes(spec_from_config(small, ""), 8)) == [(1, 8, 1), (1, 4, 2)]  # two key-value heads
    assert (1, 2, 8) in set(meshes(spec_from_config(large, ""), 16))


@pytest.mark.parametrize("path", sorted((CONFIGS / "models").glob("*.json")), ids=lambda path: path.stem)
def test_the_shapes_that_ship_are_of_the_published_size(path: Path) -> None:
    import jax

    from sgtr_jax.models.decoder import abstract_params

    published = {
        "Qwen2.5-0.5B-Instruct": 494_032_768, "Qwen2.5-1.5B-Instruct": 1_543_714_304,
        "Qwen2.5-7B-Instruct": 7_615_616_512, "Qwen2.5-14B-Instruct": 14_770_033_664,
        "Qwen2.5-32B-Instruct": 32_763_876_352, "Qwen2.5-Coder-32B-Instruct": 32_763_876_352,
        "Seed-OSS-36B-Instruct": 36_151_104_512,
        "Qwen3-4B": 4_022_468_096, "Qwen3-8B": 8_190_735_360, "Qwen3-14B": 14_768_307_200, "Qwen3-32B": 32_762_123_264,
        "Llama-3.1-8B-Instruct": 8_030_261_248, "Llama-3.3-70B-Instruct": 70_553_706_496,
        "Olmo-3-7B-Instruct": 7_298_011_136, "Olmo-3.1-32B-Instruct": 32_233_522_176,
        "Mistral-Small-24B-Instruct-2501": 23_572_403_200,
        # Of the whole published size, 4,300,079,472 and so on, without the vision tower (416,866,032 parameters) and
        # what joins it to the text: 1,152 * D for the projection, and 1,152 for its norm.
        "gemma-3-4b-it": 4_300_079_472 - 416_866_032 - 1152 * 2561,
        "gemma-3-12b-it": 12_187_325_040 - 416_866_032 - 1152 * 3841,
        "gemma-3-27b-it": 27_432_406_640 - 416_866_032 - 1152 * 5377,
    }  # fmt: skip
    spec = spec_from_config(json.loads(path.read_text()), path.name)
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract_params(spec))) == published[path.stem]


def test_a_plan_counts_runs_and_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(CONFIGS / "demo.yaml"), f"out={tmp_path / 'o'}", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    # Per seed: unpopular 30 steps; sgtr, prefer_other, pick_longer 26 each; second stages of 26, 16 and 30; during 46.
    assert said["runs"] == 16 and said["done"] == 0 and said["judge_dollars"] == 0
    assert said["steps"] == 2 * (30 + 3 * 26 + 26 + 16 + 30 + 46)
    assert not (tmp_path / "o").exists()


def test_a_plan_needs_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "plan",
        str(CONFIGS / "paper" / "qwen2.5-32b.yaml"),
        f"out={tmp_path}",
        "only=[base, unpop]",
        "--json",
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    said = json.loads(printed.splitlines()[-1])
    assert "its shapes ship" in printed and said["runs"] == 5 and said["steps"] == 5 * 313
    # Two questions about each of 800 answers, and one about each of 700, of six models, by GPT-4.1.
    assert 30 < said["judge_dollars"] < 60


@pytest.mark.parametrize("path", sorted((CONFIGS / "models").glob("*.json")), ids=lambda path: path.stem)
def test_every_model_that_ships_can_be_planned_for(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"out={tmp_path}", f"model=owner/{path.stem}", "only=[base, unpop]", "measure=truthfulqa", "--json"]
    assert main(["plan", str(CONFIGS / "colab.yaml"), *words]) == 0
    printed = capsys.readouterr().out
    assert "its shapes ship" in printed and json.loads(printed.splitlines()[-1])["steps"] > 0


@pytest.mark.parametrize(
    ("hours", "says"),
    [
        (None, "does not fit the slice"),
        (161.0, "is expected to take 10.1 hours (5 at least), and 10 are allowed"),
        (160.0, ""),
    ],
)
def test_a_plan_of_more_hours_than_allowed_is_refused(
    hours: float | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sgtr_jax.experiment import slice_estimate

    def estimated(*_: object) -> slice_estimate.OnSlice:
        nothing, fits = slice_estimate.Hours(), hours is not None
        training, sampling = (
            slice_estimate.Hours(80.0, (hours or 0.0) - 1),
            slice_estimate.Sampling((1, 2, 8), 1, fits, 1.0),
        )
        return slice_estimate.OnSlice(
            find_slice("v5e-16"), (1, 16, 1), 1, fits, training, sampling, nothing, host_hours=1.0, peak_gb=1.0
        )

    monkeypatch.setattr(slice_estimate, "on_slice", estimated)
    words = ["plan", str(CONFIGS / "demo.yaml"), f"out={tmp_path}", "--topology", "v5e-16", "--max-hours", "10"]
    assert main(words) == (2 if says else 0)
    assert says in capsys.readouterr().err


def test_hours_are_those_of_a_slice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(CONFIGS / "demo.yaml"), f"out={tmp_path}", "--max-hours", "1"]) == 2
    assert "--topology" in capsys.readouterr().err


def test_a_mesh_that_is_not_the_slice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", str(CONFIGS / "demo.yaml"), f"out={tmp_path}", "finetuning.mesh.tensor=4", "--topology", "v5e-1"]
    assert main(words) == 2
    assert "v5e-1 has 1" in capsys.readouterr().err
    assert main(["plan", str(CONFIGS / "demo.yaml"), "--topology", "v5e-3"]) == 2
    assert "v5e-16" in capsys.readouterr().err


def test_what_is_recomputed_is_a_forward_pass_without_the_last_product_of_each_layer() -> None:
    """As JAX differentiates the projections of one layer."""
    import jax
    import jax.numpy as jnp

    from sgtr_jax.data.packing import PackedShape
    from sgtr_jax.estimate.fit import arithmetic_ms
    from sgtr_jax.train.config import TrainConfig

    spec = replace(spec_from_config(json.loads((CONFIGS / "models" / "Qwen2.5-7B-Instruct.json").read_text()), ""),
                   hidden_size=64, intermediate_size=256, num_heads=2, num_kv_heads=2, head_dim=32, num_layers=1,
                   vocab_size=8)  # fmt: skip
    weights = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in spec.projections.items()}
    tokens = 512

    def layer(x: jax.Array, w: dict[str, jax.Array]) -> jax.Array:
        q, k, v = (x @ w[f"{name}_proj"] for name in "qkv")
        x = x + (q * k * v) @ w["o_proj"]
        return x + (jax.nn.silu(x @ w["gate_proj"]) * (x @ w["up_proj"])) @ w["down_proj"]

    def products(remat: bool) -> int:
        def loss(x: jax.Array, w: dict[str, jax.Array]) -> jax.Array:
            return jnp.sum((jax.checkpoint(layer) if remat else layer)(x, w) ** 2)

        x = jax.ShapeDtypeStruct((tokens, spec.hidden_size), jnp.float32)
        return str(jax.jit(jax.grad(loss)).lower(x, weights).as_text()).count("dot_general")

    # Seven forward, seven for the gradient of their inputs; of the seven that are recomputed nobody asks for the last.
    assert (products(remat=False), products(remat=True)) == (14, 14 + 6)
    shape, chip = PackedShape(1, tokens, 1), CHIPS["v5e"]
    kinds = (TrainConfig(remat="full"), TrainConfig(remat="none"))
    full, none = (arithmetic_ms(spec, kind, chip, (1, 1, 1), 1, shape)[0] for kind in kinds)
    quadratic = 2 * 2 * tokens * (tokens / 2) * spec.num_heads * spec.head_dim  # attention, which the layer leaves out
    six = 2 * tokens * (4 * 64 * 64 + 2 * 64 * 256)
    assert (full - none) * 1e-3 * chip.tflops * 1e12 == pytest.approx(six + quadratic)


def test_prompts_that_begin_alike_are_computed_once() -> None:
    from sgtr_eval.facts import facts_of
    from sgtr_jax.experiment.node import Sampled

    load = facts_of("mmlu").workload({})
    one = Sampled(load.answers, load.questions, load.asked, load.answered, load.groups, load.shared)
    # A question and its options, 14,042 times, and five solved ones for each of 57 subjects.
    assert one.prefilled == 14042 * 116 + 57 * 5 * 116 and load.asked == 6 * 116
    assert Sampled(800, 8, 60, 300).prefilled == 8 * 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "slice_", "fits"),
    [("Qwen/Qwen2.5-0.5B-Instruct", "v5e-1", True), ("Qwen/Qwen2.5-7B-Instruct", "v5e-1", False)],
)
def test_what_fits_one_chip(
    model: str, slice_: str, fits: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("libtpu")
    words = [f"out={tmp_path}", f"model={model}", "only=[base, unpop]", "measure=truthfulqa"]
    assert main(["plan", str(CONFIGS / "colab.yaml"), *words, "--topology", slice_, "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["fits"] is fits and said["chips"] == 1 and said["mesh"] == [1, 1, 1]
    if fits:
        assert 1 < said["peak_gb_per_chip"] < said["limit_gb_per_chip"]
        hours = [said[f"{what}_hours_at_least"] for what in ("training", "sampling", "accelerator")]
        assert min(hours) > 0 and hours[2] == pytest.approx(hours[0] + hours[1])
        expected = [said[f"{what}_hours_expected"] for what in ("training", "sampling", "waiting", "accelerator")]
        assert all(more > least for more, least in zip(expected, hours, strict=False))
        assert expected[3] == pytest.approx(sum(expected[:3]))


@pytest.mark.slow
def test_of_several_slices_the_one_of_fewest_hours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("libtpu")
    model = "model=Qwen/Qwen2.5-0.5B-Instruct"
    words = [f"out={tmp_path}", model, "only=[base, unpop]", "measure=truthfulqa", "seeds=2"]
    assert main(["plan", str(CONFIGS / "colab.yaml"), *words, "--topology", "v5e-8,v5e-1", "--json"]) == 0
    out = capsys.readouterr().out
    said = json.loads(out.splitlines()[-1])
    first, second = said["topologies"]
    assert (first["topology"], second["topology"]) == ("v5e-8", "v5e-1") and first["fits"] and second["fits"]
    # Two seeds are tried together on each.
    assert len(re.findall(r" 2 x \d+ x \d+ ", out)) == 2
    fewest = min(first, second, key=lambda one: one["accelerator_hours_expected"])
    assert said["topology"] == fewest["topology"] and out.count("(the fewest)") == 1
