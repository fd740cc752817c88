"""Batching: documents -> fixed-length blocks of tokens, with the documents' boundaries kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from warmstart.part import Part


@dataclass
class Block:
    """One fixed-length row of tokens.

    Attributes:
        tokens: `(length,)` int32 token ids.
        documents: `(length,)` int32, the running number of each token's document in the whole corpus; -1 is
            padding.
        positions: `(length,)` int32, the token's position inside its document (inside its piece of the
            document, where a document was cut at a block's edge).
    """

    tokens: np.ndarray
    documents: np.ndarray
    positions: np.ndarray


class Packing(Part, room="batch"):
    """The contract of a packing."""

    def pack(self, documents: Iterable[np.ndarray], length: int, padding: int) -> Iterator[Block]:
        """Token arrays of whole documents (with special tokens) to blocks of `length` tokens, streaming."""
        raise NotImplementedError
