"""One document per block; what it does not fill is padding.

No document is cut that fits, and none shares a block. The price is padding, often more than half of all tokens: train
on such blocks with `train.layout: unpadded` (or `bucketed`), which leaves the padding out of the computation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from warmstart.data.batch import Block, Packing, Tokens


class Single(Packing):
    """Each document in a block of its own; a longer one in several, or cut."""

    type: Literal["single"] = "single"
    longer: Literal["split", "cut"] = Field(
        "split",
        description="A document longer than a block: split into pieces (later ones without its context), or cut off.",
    )

    def pack(self, documents: Iterable[Tokens], length: int, padding: int) -> Iterator[Block]:
        for number, document in enumerate(documents):
            end = min(len(document), length) if self.longer == "cut" else len(document)
            for begin in range(0, end, length):
                block = Block.empty(length, padding)
                filled = block.put(0, number, document, begin, min(begin + length, end))
                # Padding counts on: a place that starts anew would look like another document to a causal model.
                block.positions[filled:] = np.arange(filled, length)
                yield block
