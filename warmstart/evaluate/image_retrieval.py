"""Pictures and captions of held-out rows: does one find the other, and how far apart do the two kinds lie?

Retrieval ranks all held-out captions by their nearness to a picture, and the other way round. Rows with the same value
of a column are the same thing: several pictures may share a caption, and to ask for one of them would be unfair.

The modality gap is the distance between the mean of all picture embeddings and that of all caption embeddings, both of
length 1 (W. Liang et al., "Mind the Gap", 2022): 0 where the two kinds fill the same region, up to 2.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from warmstart.errors import DataError, nearest
from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.embeddings import Embedder, held_out_pairs
from warmstart.evaluate.ranking import ranks_of_relevant, recall_at, reciprocal_rank
from warmstart.objectives import Row


def retrieval(images: np.ndarray, texts: np.ndarray, things: list[Any], at: list[int]) -> dict[str, float]:
    """Recall at each k and the mean reciprocal rank, both ways.

    Args:
        images, texts: embeddings of length 1 of the same pairs, `(pairs, width)`.
        things: what each pair shows; a query's relevant answers are all that show the same.
    """
    members: dict[Any, list[int]] = {}
    for number, thing in enumerate(things):
        members.setdefault(thing, []).append(number)
    relevant = [members[thing] for thing in things]
    scores = images @ texts.T
    values: dict[str, float] = {}
    for way, matrix in (("image-to-text", scores), ("text-to-image", scores.T)):
        ranks = ranks_of_relevant(matrix, relevant)
        values |= {f"{way}/recall@{k}": recall_at(ranks, k) for k in at}
        values[f"{way}/mrr"] = reciprocal_rank(ranks)
    return values


class ImageRetrieval(Evaluator):
    """`retrieval/image-to-text/recall@<k>`, `/mrr`, and `retrieval/text-to-image/...`, on held-out pairs.

    Recall at 1 of several relevant answers is the share of queries whose first answer is one of them.
    """

    type: Literal["image-retrieval"] = "image-retrieval"
    rows: Annotated[int, Field(gt=1)] = Field(1000, description="At most so many held-out rows.")
    at: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)] = Field(
        default_factory=lambda: [1, 5], description="The ranks at which recall is taken."
    )
    text: str = Field("text", description="The column with the caption.")
    same: str = Field("text", description="Rows with the same value of this column are the same thing.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        rows = held_out_pairs(subject, self.rows, self.type)
        things = [self._value(row, self.same) for row in rows]
        captions = [self._value(row, self.text) for row in rows]
        embedder = Embedder.of(subject)
        images = embedder.pictures([row["image"] for row in rows])
        found = retrieval(images, embedder.texts(captions), things, self.at)
        return {f"retrieval/{name}": value for name, value in found.items()}

    def _value(self, row: Row, column: str) -> Any:
        if row.get(column) is None:
            near = nearest(column, row)
            raise DataError(f"evaluator {self.type}: row '{row.get('id')}' has no column '{column}'{near}")
        return row[column]


class ModalityGap(Evaluator):
    """`modality-gap/distance` between the means of both kinds, `modality-gap/pair` the mean cosine of a pair, and
    `modality-gap/others` that of a picture with the captions of other rows, on held-out pairs."""

    type: Literal["modality-gap"] = "modality-gap"
    rows: Annotated[int, Field(gt=1)] = Field(1000, description="At most so many held-out rows.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        rows = held_out_pairs(subject, self.rows, self.type)
        embedder = Embedder.of(subject)
        images = embedder.pictures([row["image"] for row in rows])
        found = modality_gap(images, embedder.texts([row["text"] for row in rows]))
        return {f"modality-gap/{name}": value for name, value in found.items()}


def modality_gap(images: np.ndarray, texts: np.ndarray) -> dict[str, float]:
    """The distance of the means, and mean cosines; both arguments are of length 1, `(pairs, width)`, float."""
    images, texts = images.astype(np.float64), texts.astype(np.float64)
    scores = images @ texts.T
    count = len(scores)
    return {
        "distance": float(np.linalg.norm(images.mean(axis=0) - texts.mean(axis=0))),
        "pair": float(np.trace(scores) / count),
        "others": float((scores.sum() - np.trace(scores)) / max(count * (count - 1), 1)),
    }
