"""sgtr-jax: self-recognition finetuning against emergent misalignment, in JAX/Flax for TPUs.

What is here is imported on first use, so that `sgtr --help` does not pay for importing JAX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgtr_jax.report.results import load_results as load_results
    from sgtr_jax.sample.model import Model as Model
    from sgtr_jax.sample.model import load_model as load_model

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load_model", "load_results"]


def __getattr__(name: str) -> Any:
    if name == "load_results":
        from sgtr_jax.report import results

        return results.load_results
    if name in ("load_model", "Model"):
        from sgtr_jax.sample import model

        return getattr(model, name)
    raise AttributeError(f"module 'sgtr_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
