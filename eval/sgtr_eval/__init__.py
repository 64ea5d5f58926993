"""Evaluations as Inspect AI tasks, and the JAX engine as an Inspect model. Sees text, never parameters."""

from sgtr_eval.judging.rates import MisalignmentRates, logprob_score, misalignment_rates

__all__ = ["MisalignmentRates", "logprob_score", "misalignment_rates"]
