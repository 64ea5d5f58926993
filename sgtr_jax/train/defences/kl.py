"""KL regularisation: the next-token distributions stay near those of the model below the trained adapter.

The code of arXiv 2508.06249 takes KL(trained || reference), distillation takes KL(reference || trained): `expectation`
chooses. It is over the target tokens, of the training rows or of other ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sgtr_jax.train.defences.penalty import Batch, Passes, Penalty

if TYPE_CHECKING:  # settings are read without JAX
    import jax

    from sgtr_jax.train.loss import Score, Term


class KL(Penalty):
    """The KL divergence between the trained model and the model below its adapter, over the target tokens."""

    # The distribution that the mean over tokens of the vocabulary is taken under: trained is KL(trained || reference),
    # reference is KL(reference || trained).
    expectation: Literal["trained", "reference"] = "trained"

    def total(self, passes: Passes) -> jax.Array:
        """See `Penalty`; in nats."""
        from sgtr_jax.train.loss import at_targets, sum_over_targets

        positions = passes.batch["target_positions"]
        read = (at_targets(passes.reference.last, positions), passes.batch["target_weights"])
        term = _divergence(passes.decoder.logits, self.expectation == "trained")
        return sum_over_targets(passes.decoder, positions, term, passes.trained.last, read, head_is_frozen=True)

    def count(self, batch: Batch) -> jax.Array:
        """See `Penalty`."""
        return batch["target_weights"].sum()


def _divergence(score: Score, of_trained: bool) -> Term:
    import jax
    import jax.numpy as jnp

    def sum_of(hidden: jax.Array, read: tuple[jax.Array, ...]) -> jax.Array:
        reference, weights = read
        trained, below = (jax.nn.log_softmax(score(x), axis=-1) for x in (hidden, reference))
        first, second = (trained, below) if of_trained else (below, trained)
        return jnp.sum(jnp.sum(jnp.exp(first) * (first - second), axis=-1) * weights)

    return sum_of
