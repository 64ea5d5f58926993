"""`python -m sgtr_jax.cli`."""

from sgtr_jax.cli.main import entry

entry()
