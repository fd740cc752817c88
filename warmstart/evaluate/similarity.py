"""How well the similarity of two texts follows a score that people gave: Spearman's rank correlation (STS)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from warmstart.errors import DataError
from warmstart.evaluate import Subject
from warmstart.evaluate.embedded import EmbeddingTask, Task


def rank_correlation(found: np.ndarray, wanted: np.ndarray) -> float:
    """Spearman's correlation; 0 where one side does not vary: such a model says nothing.

    Args:
        found, wanted: `(pairs,)`.
    """
    from scipy.stats import spearmanr

    if np.ptp(found) == 0 or np.ptp(wanted) == 0:
        return 0.0
    return float(spearmanr(found, wanted).statistic)


class Similarity(EmbeddingTask):
    """`similarity/spearman` over held-out rows with two texts and a number that says how similar they are."""

    type: Literal["similarity"] = "similarity"
    score: str = Field("score", description="The column with the number; larger: more similar.")

    def task(self, subject: Subject) -> Task:
        left, right, scores = self.read(subject, self.query, self.positive, self.score)
        try:
            wanted = np.array([float(score) for score in scores])
        except (TypeError, ValueError):
            raise DataError(f"evaluator {self.name}: the column '{self.score}' must hold numbers") from None

        def judge(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
            return {"similarity/spearman": rank_correlation((first * second).sum(axis=1), wanted)}

        return Task(left, right, judge)
