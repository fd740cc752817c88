"""Best-fit packing: no document is cut that fits into a block; the gaps that stay are padding.

A document longer than a block is cut into pieces of a whole block and a rest. Rests and short documents are put,
longest first, each into the block that it fills best (best-fit-decreasing bin packing). A document that is cut makes a
model learn to go on with what it cannot know. The price of whole ones is padding: below one per cent where documents
are short, up to half where most are a little longer than half a block (Ding et al. 2024, "Fewer Truncations Improve
Language Modeling", arXiv 2404.10830).

There the whole corpus is packed at once. Here it streams: a window of some hundred blocks is packed at a time, in
constant memory, and only the last block or two of a window have a worse fit for it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from warmstart.data.batch import Block, Packing, Tokens


@dataclass(frozen=True)
class Piece:
    """Tokens `begin` to `end` of a document."""

    number: int
    document: Tokens
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


def best_fit_decreasing(lengths: list[int], capacity: int) -> list[list[int]]:
    """Which items go into which bin: longest first, each into the bin with the least room that is enough for it.

    Args:
        lengths: of the items, each from 0 to `capacity`.

    Returns:
        For each bin the numbers of its items, ascending; bins in the order of their first items.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (room left, bin), ascending
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        place = bisect_left(room, (lengths[item], -1))
        if place < len(room):
            left, chosen = room.pop(place)
        else:
            left, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(item)
        insort(room, (left - lengths[item], chosen))
    return sorted(sorted(items) for items in bins)


class BestFit(Packing):
    """Whole documents, packed tightly; only what is longer than a block is cut."""

    type: Literal["best-fit"] = "best-fit"
    window: Annotated[int, Field(ge=1)] = Field(512, description="So many blocks' worth of tokens is packed at a time.")

    def pack(self, documents: Iterable[Tokens], length: int, padding: int) -> Iterator[Block]:
        window: list[Piece] = []
        waiting = 0
        for number, document in enumerate(documents):
            whole = len(document) // length * length
            for begin in range(0, whole, length):
                yield _block([Piece(number, document, begin, begin + length)], length, padding)
            if len(document) > whole:
                window.append(Piece(number, document, whole, len(document)))
                waiting += len(document) - whole
            if waiting >= self.window * length:
                yield from _packed(window, length, padding)
                window, waiting = [], 0
        yield from _packed(window, length, padding)


def _packed(pieces: list[Piece], length: int, padding: int) -> Iterator[Block]:
    for chosen in best_fit_decreasing([len(piece) for piece in pieces], length):
        yield _block([pieces[item] for item in chosen], length, padding)


def _block(pieces: list[Piece], length: int, padding: int) -> Block:
    block, filled = Block.empty(length, padding), 0
    for piece in pieces:
        filled = block.put(filled, piece.number, piece.document, piece.begin, piece.end)
    return block
