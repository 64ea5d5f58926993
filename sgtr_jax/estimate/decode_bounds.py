"""What bounds decoding on TPU slices, from programs compiled for them: `python -m sgtr_jax.estimate.decode_bounds`.

Prints a table in Markdown. Memory is the compiler's own; a bound is arithmetic: every token reads the weights and the
cache of its chip once, at the chip's published memory bandwidth.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import jax

from sgtr_jax.estimate.fit import peak_gb
from sgtr_jax.estimate.slices import CHIPS, Slice
from sgtr_jax.estimate.topology import compile_decode, topology_mesh
from sgtr_jax.models.config_json import read_config_json
from sgtr_jax.models.decoder import abstract_params
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.sharding import sampling_mesh

# Slice, (replica, fsdp, tensor), rows. Key-value heads bound `tensor` to 8; the other chips take rows of their own.
CASES = (
    ("v4:2x2x4", (1, 2, 8), 128),
    ("v5e:4x4", (1, 2, 8), 64),
    ("v5p:2x2x2", (1, 1, 8), 256),
    ("v6e:2x4", (1, 1, 8), 128),
)


@dataclass(frozen=True)
class Bound:
    """One line of the table."""

    slice: str
    mesh: tuple[int, int, int]
    rows: int
    peak_gb: float  # of a chip, as compiled
    read_gb: float  # per chip and token: weights and cache
    ms_per_token: float
    tokens_per_second_per_chip: float


def resident_mesh(spec: ModelSpec, slice_: Slice) -> tuple[int, int, int]:
    """What sampling in bfloat16 takes on a slice when nothing else is asked for."""
    mesh = sampling_mesh(spec, 2, slice_.chips, 1e9 * slice_.chip.memory_gb)
    return (1, slice_.chips // mesh.tensor, mesh.tensor)


def rows_at_once(slice_: Slice, mesh: tuple[int, int, int]) -> int:
    """A batch that fits beside the weights, of at most 2,048 tokens a row."""
    return (16 if slice_.chip.memory_gib < 20 else 32) * mesh[1]


def prefill_ms(spec: ModelSpec, slice_: Slice, tokens: int) -> float:
    """So many tokens of prompts at the peak of all chips."""
    return 1e3 * 2 * spec.projection_parameters * tokens / slice_.chips / (slice_.chip.tflops * 1e12)


def read_gb(spec: ModelSpec, mesh: tuple[int, int, int], rows: int, slots: int) -> float:
    """Weights and cache that one chip reads for a token of every row, in bfloat16.

    All layers count with all slots: on TPU they are one stack, in which those with a window have as many as the others.
    """
    chips, tensor = math.prod(mesh), mesh[2]
    parameters: int = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(spec)))
    # The embedding table is looked up, not read.
    weights: float = 2 * (parameters - spec.vocab_size * spec.hidden_size * (not spec.tie_embeddings)) / tensor
    cache: float = 4 * spec.num_layers * rows * spec.num_kv_heads * slots * spec.head_dim / chips
    return (weights + cache) / 1e9


def decode_bound(spec: ModelSpec, slice_: str, mesh: tuple[int, int, int], rows: int, slots: int) -> Bound:
    """Compile decoding in bfloat16 for a slice; see the module."""
    compiled = compile_decode(spec, topology_mesh(slice_, mesh), rows, slots)
    read = read_gb(spec, mesh, rows, slots)
    ms = 1e3 * read / CHIPS[slice_.split(":")[0]].memory_gb_s
    return Bound(slice_, mesh, rows, peak_gb(compiled), read, ms, 1e3 * rows / ms / math.prod(mesh))


def main() -> None:
    """Print the table of one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="folder with the model's config.json")
    parser.add_argument("--slots", type=int, default=2048, help="tokens of prompt and answer (2048)")
    args = parser.parse_args()
    spec = spec_from_config(read_config_json(args.config), str(args.config))
    columns = ("slice", "mesh (replica, fsdp, tensor)", "rows", "peak GB per chip", "GB read per token",
               "ms per token at least", "tokens/s per chip at most")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for slice_, mesh, rows in CASES:
        one = decode_bound(spec, slice_, mesh, rows, args.slots)
        print(f"| {slice_} | {mesh} | {rows} | {one.peak_gb:.1f} | {one.read_gb:.1f} | {one.ms_per_token:.1f} "
              f"| {one.tokens_per_second_per_chip:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
