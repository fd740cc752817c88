"""Finding a row's second text by its first among the second texts of all held-out rows."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from warmstart.evaluate import Subject
from warmstart.evaluate.embedded import EmbeddingTask, Task
from warmstart.evaluate.ranking import ndcg_at, ranks_of_relevant, recall_at, reciprocal_rank


class Retrieval(EmbeddingTask):
    """`retrieval/recall@k`, `retrieval/mrr@k` and `retrieval/ndcg@k` over held-out pairs; equal documents are one."""

    type: Literal["retrieval"] = "retrieval"
    k: Annotated[int, Field(ge=1)] = Field(10, description="How many of the first documents count.")

    def task(self, subject: Subject) -> Task:
        queries, documents = self.read(subject, self.query, self.positive)
        number = {text: place for place, text in enumerate(dict.fromkeys(documents))}
        relevant = [[number[text]] for text in documents]

        def judge(left: np.ndarray, right: np.ndarray) -> dict[str, float]:
            ranks = ranks_of_relevant(left @ right.T, relevant)
            return {
                f"retrieval/recall@{self.k}": recall_at(ranks, self.k),
                f"retrieval/mrr@{self.k}": reciprocal_rank(ranks, self.k),
                f"retrieval/ndcg@{self.k}": ndcg_at(ranks, self.k),
            }

        return Task(queries, list(number), judge)
