"""A score by a small trained classifier: how much a text reads like the good examples rather than like all the rest.

Hashed words and pairs of words, logistic regression: the classifier of GPT-3's data filter, and what fastText filters
amount to. It costs a fraction of a millisecond per text and learns whatever tells the two sides apart: topic, length
and page furniture too, not quality as such. Perfect scores are a warning: the examples differ in something trivial.

The score is the probability of being a good example, both sides weighted alike; `select` keeps a budget of the best.
Training keeps at most `examples` texts of each side in memory, chosen by a hash, and the first `characters` of each.

Brown et al., "Language Models are Few-Shot Learners" (2005.14165), appendix A.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from warmstart.data.curate import Curation
from warmstart.data.curate.sample import Sample
from warmstart.data.sources import Source
from warmstart.data.steps import Columns, column
from warmstart.data.where import Where, matches, no_match, values_of
from warmstart.errors import DataError


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: `weights`, float64 `(features,)`, and `bias`."""

    weights: np.ndarray
    bias: float

    def scores(self, texts: list[str]) -> list[float]:
        """The probability of being a good example, for each text."""
        if not texts:
            return []
        points = np.asarray(_hashing(len(self.weights)).transform(texts) @ self.weights) + self.bias
        return [float(score) for score in 1 / (1 + np.exp(-points))]


def train_classifier(good: list[str], rest: list[str], *, features: int = 2**18, strength: float = 10.0) -> Classifier:
    """Logistic regression over hashed words and pairs of words; both sides have the same weight.

    Args:
        strength: how closely the examples are fitted (the inverse of the L2 penalty, scikit-learn's `C`).

    Raises:
        DataError: a side without examples.
    """
    from sklearn.linear_model import LogisticRegression

    if not good or not rest:
        raise DataError(
            f"a classifier needs examples of both sides, found {len(good)} good ones and {len(rest)} others"
        )
    points = _hashing(features).transform([*good, *rest])
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=300)
    model.fit(points, np.array([1] * len(good) + [0] * len(rest)))
    return Classifier(model.coef_[0], float(model.intercept_[0]))


def _hashing(features: int) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        n_features=features, ngram_range=(1, 2), alternate_sign=False, token_pattern=r"\w+|[^\w\s]"
    )


class QualityClassifier(Curation):
    """Writes into `score` the probability that a text is one of the good examples (0 to 1)."""

    type: Literal["quality-classifier"] = "quality-classifier"
    fits: ClassVar[bool] = True
    where: Where | None = Field(None, description="Rows that are good examples, e.g. `{source: wikipedia}`.")
    good: Source | None = Field(None, description="Good examples from elsewhere, instead of `where`.")
    examples: int = Field(20_000, ge=1, description="At most so many of each side are learned from.")
    characters: int = Field(4000, ge=20, description="Looks at no more than these first characters of a text.")
    features: int = Field(2**18, ge=2)
    strength: float = Field(10.0, gt=0, description="How closely the examples are fitted.")
    seed: int = Field(0, ge=0, lt=2**62, description="Chooses the examples.")

    @model_validator(mode="after")
    def _one_reference(self) -> Self:
        if (self.where is None) == (self.good is None):
            raise ValueError("needs exactly one of 'where' (rows of the data) and 'good' (a source)")
        return self

    def key(self) -> Any:
        return [super().key(), self.good.fingerprint() if self.good is not None else None]

    def measure(self, columns: Columns) -> Columns:
        texts = [text[: self.characters] for text in column(columns, "text")]
        if self.where is None:
            return {"text": texts}
        return {"text": texts, "good": matches(columns, self.where), "values": values_of(columns, self.where)}

    def fit(self, measured: Iterator[Columns]) -> Classifier:
        """The trained classifier."""
        good, rest = Sample(self.examples, self.seed), Sample(self.examples, self.seed + 1)
        values: dict[str, None] = {}
        for columns in measured:
            flags = columns.get("good", [False] * len(columns["text"]))
            good.add(text for text, flag in zip(columns["text"], flags, strict=True) if flag)
            rest.add(text for text, flag in zip(columns["text"], flags, strict=True) if not flag)
            if len(values) < 100:
                values.update(dict.fromkeys(columns.get("values", [])))
        if self.good is not None:
            good.add(row["text"][: self.characters] for row in self.good.rows())
        if self.where is not None and not good.texts():
            raise no_match(self.where, list(values))
        return train_classifier(good.texts(), rest.texts(), features=self.features, strength=self.strength)

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        return {**columns, "score": fitted.scores([text[: self.characters] for text in columns["text"]])}
