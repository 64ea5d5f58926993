"""Types of arrays and of trees of them.

Array signatures say their shapes with `jaxtyping` and the letters of docs/reference/shapes.md, such as
`Float[Array, "B T D"]`. The tests check them when the functions are called (`tests/support/shape_checks.py`).
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np

Params = dict[str, Any]  # a nested dict of arrays, as `flax.nnx.split` gives it
Tree = TypeVar("Tree")  # any tree of arrays, which comes back with the same structure
ArrayOrNumber: TypeAlias = jax.Array | np.generic  # numbers of this process may go to the devices of several
HostOrDevice = TypeVar("HostOrDevice", np.ndarray, jax.Array)
Leaf: TypeAlias = jax.Array | jax.ShapeDtypeStruct  # an array, or what stands for one where nothing is computed
