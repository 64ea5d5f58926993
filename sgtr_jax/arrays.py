"""Types of arrays and of trees of them."""

from __future__ import annotations

from typing import Any

Params = dict[str, Any]  # a nested dict of arrays, as `flax.nnx.split` gives it
