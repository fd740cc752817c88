"""Which tokens are used alike: word vectors from counts of neighbours, and clusters of them. Seconds, no model.

Vectors are a truncated singular value decomposition of positive pointwise mutual information, with the neighbours'
counts raised to 0.75 so that rare tokens are not overrated. Tokens without a neighbour are all at the origin and fall
into one cluster. The price is memory for every pair of neighbours that occurs: 16 bytes each.

Source: O. Levy, Y. Goldberg and I. Dagan, "Improving Distributional Similarity with Lessons Learned from Word
Embeddings", 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from warmstart.errors import DataError
from warmstart.objectives import Row
from warmstart.objectives.blocks import stacked

SMOOTHING = 0.75
CHUNK = 512


def neighbours(rows: Sequence[Row], size: int, window: int = 4, tokens: int = 2_000_000) -> Any:
    """How often two tokens of a document stand at most `window` places apart: a sparse matrix `(size, size)`,
    symmetric.

    Args:
        rows: packed text; of more than `tokens` tokens, rows at even distances are read.
        size: of the vocabulary.
    """
    from scipy.sparse import coo_matrix, csr_matrix

    count = min(len(rows), max(1, tokens // max(1, len(rows[0]["tokens"]))))
    read = [number * len(rows) // count for number in range(count)]
    total = csr_matrix((size, size), dtype=np.float64)
    for start in range(0, count, CHUNK):
        some = [rows[number] for number in read[start : start + CHUNK]]
        ids, documents = stacked(some, "tokens"), stacked(some, "documents")
        for apart in range(1, min(window, ids.shape[1] - 1) + 1):
            together = (documents[:, apart:] == documents[:, :-apart]) & (documents[:, apart:] >= 0)
            left, right = ids[:, :-apart][together], ids[:, apart:][together]
            total = total + coo_matrix((np.ones(len(left)), (left, right)), shape=(size, size)).tocsr()
    return total + total.T


def word_vectors(counts: Any, dimensions: int = 64, seed: int = 0) -> np.ndarray:
    """A vector of length 1 for each token (0 for one without neighbours): float64 `(size, dimensions)`."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    pairs = counts.tocoo()
    own, others = np.asarray(counts.sum(axis=1)).ravel(), np.asarray(counts.sum(axis=0)).ravel() ** SMOOTHING
    # p(a, b) / (p(a) p'(b)), where p' are the smoothed shares of the neighbours
    information = np.log(pairs.data * others.sum() / (own[pairs.row] * others[pairs.col]))
    pairs.data = np.maximum(information, 0.0)
    found = TruncatedSVD(min(dimensions, counts.shape[0] - 1), random_state=seed).fit_transform(pairs.tocsr())
    return normalize(found)


def cluster_tokens(
    rows: Sequence[Row], ordinary: np.ndarray, clusters: int, *, tokens: int = 2_000_000, seed: int = 0
) -> np.ndarray:
    """The cluster of every token, int64 `(size,)` from 0; -1 for special ones.

    Args:
        rows: packed text.
        ordinary: which ids are no special tokens, bool `(size,)`.

    Raises:
        DataError: there is no text, or its tokens do not differ enough for so many clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if not len(rows):
        raise DataError("token clusters are learned from the training rows, and there are none")
    import warnings

    with threadpool_limits(1), warnings.catch_warnings():  # several threads add up in an order of their own
        warnings.simplefilter("ignore", ConvergenceWarning)  # too few different vectors: an error of ours, below
        vectors = word_vectors(neighbours(rows, len(ordinary), tokens=tokens), seed=seed)[ordinary]
        found = KMeans(min(clusters, len(vectors)), n_init=3, random_state=seed).fit_predict(vectors)
    if len(np.unique(found)) < clusters:
        raise DataError(
            f"the text has tokens of {len(np.unique(found))} different uses, too few for {clusters} clusters"
        )
    result = np.full(len(ordinary), -1, dtype=np.int64)
    result[ordinary] = found
    return result
