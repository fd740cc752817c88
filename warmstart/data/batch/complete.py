"""Complete packing: every block begins where a document begins, and no document goes on in a later block.

Documents are appended until a block is full; what does not fit of the last one is dropped, its end mark included. So
no piece of text stands in a block without its beginning or its header. The price: about half a document of text per
block is lost, which a long corpus has to spare and a short one has not (the packing of Gao et al. 2025, arXiv
2501.01956).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from warmstart.data.batch import Block, Packing, Tokens


class Complete(Packing):
    """Documents until a block is full; the rest of the last one is dropped, and so is the last, unfilled block."""

    type: Literal["complete"] = "complete"

    def pack(self, documents: Iterable[Tokens], length: int, padding: int) -> Iterator[Block]:
        block, filled = Block.empty(length, padding), 0
        for number, document in enumerate(documents):
            filled = block.put(filled, number, document, 0, min(len(document), length - filled))
            if filled == length:
                yield block
                block, filled = Block.empty(length, padding), 0
