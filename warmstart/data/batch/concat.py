"""Concatenate, then split: documents one after another, cut into blocks wherever a block is full.

No padding and no token lost but the last, unfilled block. The price: a document that crosses a block's edge
is cut, and the piece after the cut starts anew, at position 0 and without its context.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from warmstart.data.batch import Block, Packing


class Concat(Packing):
    """Concat-then-split; the last, unfilled block is dropped."""

    type: Literal["concat"] = "concat"

    def pack(self, documents: Iterable[np.ndarray], length: int, padding: int) -> Iterator[Block]:
        block, filled = _empty(length), 0
        for number, document in enumerate(documents):
            done = 0
            while done < len(document):
                take = min(length - filled, len(document) - done)
                here = slice(filled, filled + take)
                block.tokens[here] = document[done : done + take]
                block.documents[here] = number
                block.positions[here] = np.arange(take)
                filled, done = filled + take, done + take
                if filled == length:
                    yield block
                    block, filled = _empty(length), 0


def _empty(length: int) -> Block:
    return Block(*(np.empty(length, dtype=np.int32) for _ in range(3)))
