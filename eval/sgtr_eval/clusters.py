"""How many kinds of answers there are: clusters of their embeddings at a sweep of cosine thresholds.

The study's embedding model and rule are not published. Here both are named: single link (connected components of
"more similar than the threshold") and complete link (all pairs of a cluster are that similar).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sgtr_eval.facts import Package

THRESHOLDS = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
DEFAULT_EMBEDDING = "sentence-transformers/all-MiniLM-L6-v2"
_REVISION = {DEFAULT_EMBEDDING: "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"}


def cluster_counts(vectors: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> dict[str, dict[float, int]]:
    """Clusters of `vectors[n, d]` by rule and threshold: `{"single": {0.85: 3}, "complete": {0.85: 5}}`."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial.distance import squareform

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths == 0, 1, lengths)
    similar = np.clip(unit @ unit.T, -1, 1)
    distance = 1 - similar
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "complete") if len(vectors) > 1 else None
    counts: dict[str, dict[float, int]] = {"single": {}, "complete": {}}
    for threshold in thresholds:
        counts["single"][threshold] = int(connected_components(similar >= threshold, directed=False)[0])
        labels = fcluster(tree, 1 - threshold + 1e-12, "distance") if tree is not None else np.ones(len(vectors))
        counts["complete"][threshold] = len(set(labels.tolist()))
    return counts


def packages_of(embedding: str) -> list[Package]:
    """What an embedding needs besides the project's own packages."""
    if embedding.startswith("openai/"):
        return []
    return [Package("sentence_transformers", "sgtr-jax[identity]")]


def embed(texts: Sequence[str], model: str = DEFAULT_EMBEDDING) -> np.ndarray:
    """Embeddings float32 `[n, d]`: `openai/NAME` asks the API, anything else is a sentence-transformers model.

    Raises InputError when sentence-transformers is not installed.
    """
    if model.startswith("openai/"):
        import openai

        reply = openai.OpenAI().embeddings.create(model=model.removeprefix("openai/"), input=list(texts))
        return np.asarray([item.embedding for item in reply.data], np.float32)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        from sgtr_jax.errors import InputError

        raise InputError(
            f"embedding {model!r}: pip install 'sgtr-jax[identity]' for sentence-transformers, or name an API's model "
            "(openai/text-embedding-3-small)"
        ) from None
    encoder = SentenceTransformer(model, revision=_REVISION.get(model))
    return np.asarray(encoder.encode(list(texts), show_progress_bar=False), np.float32)
