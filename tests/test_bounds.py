"""Every program of docs/tpu-bounds.md compiles for its slice and fits: `make topologies`, twenty minutes."""

from __future__ import annotations

import pytest

from sgtr_jax.estimate.bounds_page import CASES, SLOTS, prefill_fit, train_fit
from sgtr_jax.estimate.decode_bounds import decode_bound, resident_mesh, rows_at_once
from sgtr_jax.estimate.fit import MARGIN
from sgtr_jax.estimate.model_shapes import shipped_spec
from sgtr_jax.estimate.slices import find_slice

pytest.importorskip("libtpu")
pytestmark = pytest.mark.topologies
ALL = [(name, slice_) for name, slices in CASES for slice_ in slices]


@pytest.mark.parametrize(("name", "slice_"), ALL)
def test_training_fits(name: str, slice_: str) -> None:
    one = train_fit(name, find_slice(slice_))
    assert one.fits, one.why
    assert one.peak_gb <= MARGIN * one.limit_gb and one.bound_ms > 0


@pytest.mark.parametrize(("name", "slice_"), ALL)
def test_sampling_fits(name: str, slice_: str) -> None:
    found, spec = find_slice(slice_), shipped_spec(name)
    mesh = resident_mesh(spec, found)
    limit = MARGIN * found.chip.memory_gb
    groups = found.chips // mesh[2]
    assert prefill_fit(spec, found, mesh, 4 * groups).peak_gb <= limit
    assert decode_bound(spec, found.topology, mesh, rows_at_once(found, mesh), SLOTS).peak_gb <= limit
