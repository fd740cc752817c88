"""How well a ranking finds what is relevant: recall, reciprocal rank, nDCG.

Plain functions of a matrix of scores, for retrieval of any kind: text by text, images by text. Ties are counted
against the model: of documents with equal scores the relevant ones are taken to come last, so that a model that gives
every document the same score finds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ranks_of_relevant(scores: np.ndarray, relevant: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """The ranks, from 1, of each query's relevant documents, best first.

    Args:
        scores: `(queries, documents)`, higher is nearer. One that is not a number comes last.
        relevant: for each query the numbers of its relevant documents, at least one.

    Raises:
        ValueError: there are not as many queries as lists, or a query has no relevant document.
    """
    if len(scores) != len(relevant):
        raise ValueError(f"{len(scores)} queries, but relevant documents for {len(relevant)}")
    result = []
    for query, own in zip(np.nan_to_num(scores.astype(np.float64), nan=-np.inf), relevant, strict=True):
        wanted = np.unique(np.asarray(own, dtype=np.int64))
        if not len(wanted):
            raise ValueError("a query has no relevant document")
        others = np.sort(np.delete(query, wanted))
        own_scores = np.sort(query[wanted])[::-1]
        not_below = len(others) - np.searchsorted(others, own_scores, side="left")
        result.append(not_below + np.arange(1, len(wanted) + 1))
    return result


def recall_at(ranks: Sequence[np.ndarray], k: int) -> float:
    """The share of a query's relevant documents among the first `k` (at most `k` can be there), mean over queries."""
    return float(np.mean([(own <= k).sum() / min(len(own), k) for own in ranks]))


def reciprocal_rank(ranks: Sequence[np.ndarray], k: int | None = None) -> float:
    """1 / rank of the first relevant document, 0 where it comes after `k`; mean over queries (MRR, MRR@k)."""
    first = np.array([own[0] for own in ranks], dtype=np.float64)
    return float(np.mean(np.where(first <= (k or np.inf), 1 / first, 0.0)))


def ndcg_at(ranks: Sequence[np.ndarray], k: int) -> float:
    """Normalised discounted cumulative gain of the first `k` with binary relevance, mean over queries."""

    def one(own: np.ndarray) -> float:
        best = np.arange(1, min(len(own), k) + 1)
        return float((1 / np.log2(own[own <= k] + 1)).sum() / (1 / np.log2(best + 1)).sum())

    return float(np.mean([one(own) for own in ranks]))
