"""Options that training steps are compiled with, by the kind of device: this is where they are set."""

from __future__ import annotations

from collections.abc import Sequence

import jax

# Fusions that compute while a collective goes on, for gathers of weights. libtpu 0.0.42 leaves them off for v6e, where
# no gather of a training step is then asynchronous; it has them on for the others, where asking changes nothing. The
# set is maxtext's CF_FOR_ALL_GATHER (benchmarks/xla_flags_library.py), which it gives libtpu in LIBTPU_INIT_ARGS. As
# options of the compilation they hold however a process was started and are part of what names a cached program, and
# one that libtpu does not know is refused instead of ending the process.
_FUSED_GATHERS: dict[str, str | bool] = {
    "xla_tpu_enable_async_collective_fusion": "true",
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather": "true",
    "xla_tpu_enable_async_collective_fusion_multiple_steps": "true",
    "xla_tpu_overlap_compute_collective_tc": "true",
    "xla_enable_async_all_gather": "true",
}
OPTIONS = {"TPU v6 lite": _FUSED_GATHERS}


def compiler_options(devices: Sequence[jax.Device]) -> dict[str, str | bool]:
    """The options for programs of such devices (`jax.Device.device_kind` of the first); none for most."""
    return OPTIONS.get(devices[0].device_kind, {}) if len(devices) > 1 else {}
