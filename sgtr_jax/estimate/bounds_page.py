"""The page of bounds: `python -m sgtr_jax.estimate.bounds_page > docs/tpu-bounds.md` (20 minutes, no TPU).

Every line is a program compiled by libtpu for a slice that need not exist. Memory and bytes between chips are the
compiler's; times are arithmetic on the chips' published peaks, with the links of a chip at the corner of its slice.
Nothing of it ran on a TPU. A step takes the longest of its three times where what moves between chips does so while
they compute, and the sum of computing and moving where it does not. Which of the two a program deserves stands in its
schedule (docs/performance.md, "What chips wait for"). The table was made with the defaults of libtpu 0.0.42; training
steps on v6e are since compiled with options under which gathers of weights are asynchronous.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sgtr_jax.data.packing import PackedShape
from sgtr_jax.estimate.communication import collective_bytes
from sgtr_jax.estimate.decode_bounds import decode_bound, prefill_ms, resident_mesh, rows_at_once
from sgtr_jax.estimate.fit import Fit, fit, peak_gb
from sgtr_jax.estimate.model_shapes import shipped_spec
from sgtr_jax.estimate.slices import Slice, find_slice
from sgtr_jax.estimate.topology import compile_prefill, topology_mesh
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.train.config import TrainConfig

CASES = (
    ("Qwen2.5-0.5B-Instruct", ("v5e-1", "v6e-1", "v5e-8")),
    ("Qwen2.5-7B-Instruct", ("v6e-1", "v5e-8", "v5p-8", "v4-16")),
    ("Qwen2.5-32B-Instruct", ("v5e-16", "v5e-32", "v6e-8", "v6e-16", "v5p-16", "v4-32")),
    ("Seed-OSS-36B-Instruct", ("v5e-16", "v6e-8", "v6e-16", "v5p-16")),
)
STEP = (16, 1024)  # rows and tokens of a step of SGTR: sixteen examples of about a thousand tokens
SLOTS = 2048  # tokens of prompt and answer in sampling


@dataclass(frozen=True)
class Prefill:
    """Prompts run once, sharded as sampling is."""

    peak_gb: float
    moved_gb: float
    compute_ms: float


def train_fit(name: str, slice_: Slice) -> Fit:
    """A step of one run on the default mesh, weights split over all chips."""
    mesh = (1, slice_.chips, 1)
    rows, length = max(STEP[0], slice_.chips), STEP[1]
    return fit(
        shipped_spec(name),
        TrainConfig(),
        slice_.chip,
        topology_mesh(slice_.topology, mesh),
        1,
        PackedShape(rows, length, 8),
    )


def prefill_fit(spec: ModelSpec, slice_: Slice, mesh: tuple[int, int, int], rows: int) -> Prefill:
    """Prompts of half the slots, so many at once."""
    length = SLOTS // 2
    compiled = compile_prefill(spec, topology_mesh(slice_.topology, mesh), rows, length)
    moved = sum(collective_bytes(compiled).values()) / 1e9 if math.prod(mesh) > 1 else 0.0
    return Prefill(peak_gb(compiled), moved, prefill_ms(spec, slice_, rows * length))


def lines() -> Iterator[str]:
    """The page, line by line as programs are compiled."""
    yield "# Bounds on TPU slices\n"
    yield (__doc__ or "").split("\n\n", 1)[1].replace("\n", " ").strip() + "\n"
    yield f"## Training: a step of {STEP[0]} rows (or one a chip) of {STEP[1]:,} tokens, one run, remat: full\n"
    training = ("model", "slice", "mesh (replica, fsdp, tensor)", "rows", "peak GB per chip", "of", "TFLOP per chip",
               "GB moved per chip", "compute ms", "memory ms", "links ms", "tokens/s at most",
               "tokens/s, links not overlapped")  # fmt: skip
    yield f"| {' | '.join(training)} |\n{'|---' * len(training)}|"
    for name, slices in CASES:
        for slice_ in map(find_slice, slices):
            one = train_fit(name, slice_)
            if not one.fits:
                empty = " |" * (len(training) - 5)
                yield f"| {name} | {slice_.name} | {one.mesh} | {one.shape.rows} | {one.why} |{empty}"
                continue
            rate = 1e3 * one.shape.rows * one.shape.length / one.bound_ms
            serial = 1e3 * one.shape.rows * one.shape.length / one.serial_ms
            flop = one.compute_ms / 1e3 * slice_.chip.tflops
            yield (
                f"| {name} | {slice_.name} | {one.mesh} | {one.shape.rows} | {one.peak_gb:.1f} | {one.limit_gb:.1f} "
                f"| {flop:.0f} | {one.moved_gb:.1f} | {one.compute_ms:.0f} | {one.memory_ms:.0f} | {one.link_ms:.0f} "
                f"| {rate:,.0f} | {serial:,.0f} |"
            )
    yield f"\n## Sampling in bfloat16: prompts of {SLOTS // 2:,} tokens, then tokens with {SLOTS:,} slots a row\n"
    columns = ("model", "slice", "mesh (replica, fsdp, tensor)", "prompts", "prefill peak GB", "prefill GB moved",
               "prefill compute ms", "rows", "decode peak GB", "GB read per token", "ms per token at least",
               "tokens/s per chip at most")  # fmt: skip
    yield f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|"
    for name, slices in CASES:
        spec = shipped_spec(name)
        for slice_ in map(find_slice, slices):
            mesh = resident_mesh(spec, slice_)
            groups = slice_.chips // mesh[2]
            before = prefill_fit(spec, slice_, mesh, 4 * groups)
            rows = rows_at_once(slice_, mesh)
            after = decode_bound(spec, slice_.topology, mesh, rows, SLOTS)
            yield (
                f"| {name} | {slice_.name} | {mesh} | {4 * groups} | {before.peak_gb:.1f} | {before.moved_gb:.1f} "
                f"| {before.compute_ms:.0f} | {rows} | {after.peak_gb:.1f} | {after.read_gb:.1f} "
                f"| {after.ms_per_token:.1f} | {after.tokens_per_second_per_chip:,.0f} |"
            )


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
