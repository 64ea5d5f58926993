"""How far packed and padded gradients are apart in float64, by family, as JSON: `python float64_gradients.py`.

Where the decoder says float32 it is told float64, so that nothing but the order of sums is left to differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
jax.config.update("jax_enable_x64", True)
jnp.float32 = jnp.float64

from test_gradient import FAMILIES, both, distance, drawn  # noqa: E402 - after float64 is on

LENGTHS = ([20], [2, 3, 19, 11, 7, 20, 5], [9, 9, 9, 9, 9, 9, 9, 9, 9, 9], [17, 2, 2, 2, 14, 12, 20, 20])


def worst(name: str) -> float:
    found = []
    for seed, lengths in enumerate(LENGTHS):
        (_, padded), (_, packed) = both(name, 1, drawn(lengths, seed), np.float64)
        assert {leaf.dtype for leaf in jax.tree.leaves((padded, packed))} == {jnp.dtype("float64")}
        found.append(distance(padded, packed))
    return max(found)


if __name__ == "__main__":
    print(json.dumps({name: worst(name) for name in FAMILIES}))
