"""Concatenate, then split: documents one after another, cut into blocks wherever a block is full.

No padding and no token lost but the last, unfilled block. The price: a document that crosses a block's edge
is cut, and the piece after the cut starts anew, at position 0 and without its context.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from warmstart.data.batch import Block, Packing, Tokens


class Concat(Packing):
    """Concat-then-split; the last, unfilled block is dropped."""

    type: Literal["concat"] = "concat"

    def pack(self, documents: Iterable[Tokens], length: int, padding: int) -> Iterator[Block]:
        block, filled = Block.empty(length, padding), 0
        for number, document in enumerate(documents):
            done = 0
            while done < len(document):
                take = min(length - filled, len(document) - done)
                filled = block.put(filled, number, document, done, done + take)
                done += take
                if filled == length:
                    yield block
                    block, filled = Block.empty(length, padding), 0
