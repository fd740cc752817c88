"""Which of `clusters` topics a text belongs to, so that a selection can be balanced over them.

TF-IDF over hashed words and mini-batch k-means: cheap, no model to load, topics of vocabulary rather than of meaning.
`select` with `per: cluster, division: equal` then draws evenly from dense and sparse regions (cluster-balanced
sampling). The centres are `clusters x features` numbers of 4 bytes (67 MB for 1,024 clusters), learned from a sample.

Sculley, "Web-scale k-means clustering" (2010); scikit-learn's implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.data.curate import Curation
from warmstart.data.curate.sample import Sample
from warmstart.data.steps import Columns, column
from warmstart.errors import DataError


@dataclass(frozen=True)
class Clusters:
    """Learned topics: `centres`, float32 `(features, clusters)`, and `weights` of the words, float64 `(features,)`."""

    centres: np.ndarray
    weights: np.ndarray

    def of(self, texts: list[str]) -> list[int]:
        """The nearest centre of each text; a text without words goes to the centre nearest to nothing."""
        if not texts:
            return []
        distances = (self.centres**2).sum(axis=0) - 2 * np.asarray(_points(texts, self.weights) @ self.centres)
        return [int(number) for number in distances.argmin(axis=1)]


def find_clusters(texts: list[str], clusters: int, *, features: int = 2**14, seed: int = 0) -> Clusters:
    """Topics of a sample of texts.

    Raises:
        DataError: fewer texts than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(texts) < clusters:
        raise DataError(f"{clusters} clusters need at least as many different texts, found {len(texts)}")
    counts = _hashing(features).transform(texts)
    weights = np.log((1 + len(texts)) / (1 + counts.getnnz(axis=0))) + 1
    model = MiniBatchKMeans(clusters, random_state=seed % 2**32, n_init=1, max_iter=20, reassignment_ratio=0.01)
    model.fit(_points(texts, weights))
    return Clusters(np.ascontiguousarray(model.cluster_centers_.T, dtype=np.float32), weights)


def _hashing(features: int) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=features, alternate_sign=False, norm=None)


def _points(texts: list[str], weights: np.ndarray) -> Any:
    from sklearn.preprocessing import normalize

    counts = _hashing(len(weights)).transform(texts)
    counts.data = (1 + np.log(counts.data)) * weights[counts.indices]
    return normalize(counts).astype(np.float32)


class Cluster(Curation):
    """Writes the number of each text's topic into the column `cluster`."""

    type: Literal["cluster"] = "cluster"
    fits: ClassVar[bool] = True
    clusters: int = Field(64, ge=1)
    examples: int = Field(20_000, ge=1, description="At most so many different texts are learned from.")
    characters: int = Field(4000, ge=20, description="Looks at no more than these first characters of a text.")
    features: int = Field(2**14, ge=2)
    seed: int = Field(0, ge=0, lt=2**63)

    def measure(self, columns: Columns) -> Columns:
        return {"text": [text[: self.characters] for text in column(columns, "text")]}

    def fit(self, measured: Iterator[Columns]) -> Clusters:
        """The topics."""
        sample = Sample(self.examples, self.seed)
        for columns in measured:
            sample.add(columns["text"])
        return find_clusters(sample.texts(), self.clusters, features=self.features, seed=self.seed)

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        return {**columns, "cluster": fitted.of([text[: self.characters] for text in columns["text"]])}
