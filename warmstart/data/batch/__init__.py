"""Batching: documents -> fixed-length blocks of tokens, with the documents' boundaries kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from warmstart.part import Part


@dataclass(frozen=True)
class Tokens:
    """One document as tokens.

    Attributes:
        ids: `(n,)` int32, special tokens included.
        context: so many tokens at the front are read but are never targets (a metadata header and the mark before it).
    """

    ids: np.ndarray
    context: int = 0

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Block:
    """One fixed-length row of tokens.

    Attributes:
        tokens: `(length,)` int32 token ids.
        documents: `(length,)` int32, the running number of each token's document in the whole corpus; -1 is
            padding.
        positions: `(length,)` int32, the token's position inside its document (inside its piece of the
            document, where a document was cut at a block's edge).
        context: `(length,)` bool, the token is never a target.
    """

    tokens: np.ndarray
    documents: np.ndarray
    positions: np.ndarray
    context: np.ndarray

    @classmethod
    def empty(cls, length: int, padding: int) -> Block:
        """A block of padding."""
        return cls(
            np.full(length, padding, dtype=np.int32),
            np.full(length, -1, dtype=np.int32),
            np.zeros(length, dtype=np.int32),
            np.zeros(length, dtype=bool),
        )

    def put(self, place: int, number: int, document: Tokens, begin: int = 0, end: int | None = None) -> int:
        """Writes tokens `begin` to `end` of a document (number `number` of the corpus) at `place`; the place after
        it."""
        end = len(document) if end is None else end
        here = slice(place, place + end - begin)
        self.tokens[here] = document.ids[begin:end]
        self.documents[here] = number
        self.positions[here] = np.arange(end - begin)
        self.context[here] = np.arange(begin, end) < document.context
        return place + end - begin


class Packing(Part, room="batch"):
    """The contract of a packing."""

    whole_rows: ClassVar[bool] = False
    """Whether rows stay rows (`warmstart/data/records.py`): then nothing is tokenised, and `pack` is never called."""

    def pack(self, documents: Iterable[Tokens], length: int, padding: int) -> Iterator[Block]:
        """Whole documents (with special tokens) to blocks of `length` tokens, streaming.

        Args:
            documents: in the order of the corpus; their numbers count from 0.
            padding: the id of the token that fills what no document fills.
        """
        raise NotImplementedError
