"""A score by an n-gram language model of a reference: how expected a text is to somebody who has read only that.

Interpolated Kneser-Ney, in NumPy: every order is a proper distribution over a closed vocabulary, down to the uniform
one, so that perplexities can be compared. Words that the reference has fewer than `min_count` times are all one unknown
word. Cheap (hundreds of texts a second and core), blind to meaning; low perplexity favours boilerplate and
near-copies of the reference: remove duplicates and very short texts first (the paper's own advice).

KenLM is the field's tool for billions of words, but its Python package cannot train a model and compiles for minutes.
Memory here: 12 bytes per distinct n-gram of each order and 16 per context; while it counts, 16 bytes per order for
every word of the reference. n-grams are known by 64-bit hashes: that two of ten million share one has a chance of 3 in
a million.

Guo et al., "Efficient Continual Pre-training by Mitigating the Stability Gap" (2406.14833), section 4; Chen and
Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1998), interpolated Kneser-Ney.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from warmstart.data.curate import Curation
from warmstart.data.sources import Source
from warmstart.data.steps import Columns, column
from warmstart.data.where import Where, matches, no_match, values_of
from warmstart.errors import DataError

WORD = re.compile(r"\w+|[^\w\s]")
UNKNOWN, END, BEGIN = 0, 1, 2  # BEGIN is context only: it is no word of the vocabulary


def words_of(text: str) -> list[str]:
    """The words and marks of a text, case ignored.

    Raises:
        DataError: there are none.
    """
    found = WORD.findall(text.casefold())
    if not found:
        raise DataError("an empty text has no perplexity")
    return found


@dataclass(frozen=True)
class _Level:
    """One order: n-grams and contexts by the ascending hashes of their words."""

    grams: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    distinct: np.ndarray
    discount: float


@dataclass(frozen=True)
class NgramModel:
    """An interpolated Kneser-Ney model.

    Attributes:
        words: the number of each known word, from 3 on.
        levels: orders 1, 2, ...
    """

    words: dict[str, int]
    levels: list[_Level]

    @property
    def vocabulary(self) -> int:
        """How many words can come next: the known ones, the unknown one, and the end of the text."""
        return len(self.words) + 2

    def log_probabilities(self, text: str) -> np.ndarray:
        """The natural logarithm of the probability of each word and of the text's end, float64 `(words + 1,)`.

        Raises:
            DataError: a text without words.
        """
        ids = _padded([self.words.get(word, UNKNOWN) for word in words_of(text)], len(self.levels))
        contexts, grams = _hashes(ids, len(self.levels))
        probability = np.full(len(ids) - len(self.levels), 1.0 / self.vocabulary)
        places = np.arange(len(probability))
        for level, context, gram in zip(self.levels, contexts, grams, strict=True):
            place, known = _find(level.contexts, context[places])
            places, place = places[known], place[known]  # a context that is unknown here is so in the orders above
            at, seen = _find(level.grams, gram[places])
            count = np.where(seen, level.counts[at] - level.discount, 0.0)
            total = level.totals[place]
            probability[places] = count / total + level.discount * level.distinct[place] / total * probability[places]
        return np.log(probability)

    def perplexity(self, text: str) -> float:
        """exp of the mean negative log-probability per word, the text's end included."""
        found = self.log_probabilities(text)
        return math.exp(-math.fsum(found.tolist()) / len(found))


def train_ngrams(texts: Iterable[str], order: int = 5, min_count: int = 2) -> NgramModel:
    """Counts a reference.

    Raises:
        DataError: a reference without texts, or a text without words.
    """
    numbers: dict[str, int] = {}
    documents: list[np.ndarray] = []
    counts: Counter[int] = Counter()
    for text in texts:
        ids = [numbers.setdefault(word, len(numbers)) for word in words_of(text)]
        counts.update(ids)
        documents.append(np.array(ids, dtype=np.int32))
    if not documents:
        raise DataError("an n-gram model needs a reference with at least one text")
    words: dict[str, int] = {}
    final = np.zeros(len(numbers), dtype=np.int64)
    for word, number in numbers.items():
        if counts[number] >= min_count:
            words[word] = final[number] = len(words) + 3
    parts = [_hashes(_padded(final[ids].tolist(), order), order) for ids in documents]
    grams = [np.concatenate([part[1][level] for part in parts]) for level in range(order)]
    contexts = [np.concatenate([part[0][level] for part in parts]) for level in range(order)]
    # The highest order counts what it saw; each lower one in how many n-grams of the order above an n-gram is the end.
    levels: list[_Level] = []
    where = np.arange(len(grams[0]))
    for level in reversed(range(order)):
        keys, first, count = np.unique(grams[level][where], return_index=True, return_counts=True)
        where = where[first]
        levels.append(_level(keys, count, contexts[level][where]))
    return NgramModel(words, levels[::-1])


def _level(keys: np.ndarray, counts: np.ndarray, contexts: np.ndarray) -> _Level:
    names, place = np.unique(contexts, return_inverse=True)
    totals = np.bincount(place, weights=counts, minlength=len(names))
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = once / (once + 2 * twice) if once else 0.5
    discount = min(discount, 0.95)  # all n-grams seen once would leave nothing for any of them
    distinct = np.bincount(place, minlength=len(names)).astype(np.uint32)
    return _Level(keys, counts.astype(np.uint32), names, totals.astype(np.uint32), distinct, discount)


def _padded(ids: list[int], order: int) -> np.ndarray:
    return np.array([BEGIN] * order + ids + [END], dtype=np.uint64)


def _hashes(ids: np.ndarray, order: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Hashes of the contexts and n-grams of orders 1, 2, ... that end at each word after the padding."""
    contexts, grams = [], []
    last = ids[order:]
    for length in range(order):
        context = np.full(len(last), length + 1, dtype=np.uint64)
        for back in range(length, 0, -1):
            context = _mix(context, ids[order - back : len(ids) - back])
        contexts.append(context)
        grams.append(_mix(context, last))
    return contexts, grams


def _mix(state: np.ndarray, value: np.ndarray) -> np.ndarray:
    mixed = (state ^ (value + np.uint64(0x632BE59BD9B4E019))) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return mixed ^ (mixed >> np.uint64(29))


def _find(ascending: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return place, ascending[place] == wanted


class NgramPerplexity(Curation):
    """Writes into `score` a text's perplexity under an n-gram model of a reference; low is close to the reference."""

    type: Literal["ngram-perplexity"] = "ngram-perplexity"
    fits: ClassVar[bool] = True
    where: Where | None = Field(None, description="Rows that are the reference, e.g. `{source: wikipedia}`.")
    reference: Source | None = Field(None, description="A reference from elsewhere, instead of `where`.")
    order: int = Field(5, ge=1, le=8)
    min_count: int = Field(2, ge=1, description="Rarer words of the reference are one unknown word.")

    @model_validator(mode="after")
    def _one_reference(self) -> Self:
        if (self.where is None) == (self.reference is None):
            raise ValueError("needs exactly one of 'where' (rows of the data) and 'reference' (a source)")
        return self

    def key(self) -> Any:
        return [super().key(), self.reference.fingerprint() if self.reference is not None else None]

    def measure(self, columns: Columns) -> Columns:
        if self.where is None:
            return {"texts": [[]], "values": [[]]}
        flags = matches(columns, self.where)
        texts = [text for text, good in zip(column(columns, "text"), flags, strict=True) if good and WORD.search(text)]
        return {"texts": [texts], "values": [list(dict.fromkeys(values_of(columns, self.where)))]}

    def fit(self, measured: Iterator[Columns]) -> NgramModel:
        """The model of the reference."""
        values: dict[str, None] = {}

        def texts() -> Iterator[str]:
            for columns in measured:
                for some, found in zip(columns["texts"], columns["values"], strict=True):
                    values.update(dict.fromkeys(found if len(values) < 100 else []))
                    yield from some
            if self.reference is not None:
                yield from (row["text"] for row in self.reference.rows() if WORD.search(row["text"]))

        found = texts()
        first = next(found, None)
        if first is None and self.where is not None:
            raise no_match(self.where, list(values))
        return train_ngrams(() if first is None else chain([first], found), self.order, self.min_count)

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        return {**columns, "score": [fitted.perplexity(text) for text in columns["text"]]}
