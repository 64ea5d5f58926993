"""Evaluations as Inspect AI tasks, and the JAX engine as an Inspect model. Sees text, never parameters."""
