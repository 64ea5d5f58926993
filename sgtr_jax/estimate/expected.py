"""What work is expected to take, beside what it takes at least: shares of the limits, and what the limits leave out.

None of the shares was measured on a TPU with these programs. They are those that others have published, or what ours
reached elsewhere, and stand here to be replaced.
"""

from __future__ import annotations

from sgtr_jax.estimate.fit import Fit

# Of a chip's peak in products. maxtext publishes 67 % (32B, v5e-256), 65 % (70B, v5p) and 50 % (70B, v6e-256) for rows
# without padding; ours reached 36 to 52 % of what an H200 gives (docs/performance.md).
OF_PRODUCTS = 0.5
# Of the bandwidth of memory in decoding: 27 to 57 % on an H200 (docs/performance.md).
OF_BANDWIDTH = 0.4
# Milliseconds of the host for an answer, in which a slice waits: questions whose answer is one of a few tokens are
# scored in bulk, all others go through Inspect's loop (docs/performance.md, "How Inspect feeds the engine").
HOST_MS_SCORED = 7.0
HOST_MS_SAMPLED = 24.0
# Loading: 2.84 GB took 10 s on two cores of one host; each of a slice's hosts, which have four chips, loads its share.
# Compiling a step of 32B took 30 to 125 s, and a training or the sampling has a few programs.
_LOADED_GB_S = 0.28
_CHIPS_PER_HOST = 4
_COMPILED_S = 300.0


def expected_step_ms(fit: Fit) -> float:
    """A step as scheduled, with products at the share of the peak that is expected."""
    return fit.exposed_ms + max(
        fit.compute_ms / OF_PRODUCTS, fit.memory_ms / OF_BANDWIDTH, fit.link_ms - fit.exposed_ms
    )


def host_ms(answers: int, answer_tokens: int) -> float:
    """Milliseconds of the host for so many answers of so many tokens each."""
    return answers * (HOST_MS_SCORED if answer_tokens == 1 else HOST_MS_SAMPLED)


def start_ms(weights_gb: float, chips: int) -> float:
    """Milliseconds from a process's start to its first step: weights loaded by every host, programs compiled."""
    return 1e3 * (weights_gb / max(1, chips // _CHIPS_PER_HOST) / _LOADED_GB_S + _COMPILED_S)
