"""A random sample of a stream in bounded memory that does not depend on the stream's order: the smallest hashes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import xxhash


class Sample:
    """At most `most` different texts: those whose hash is smallest.

    Args:
        seed: chooses the hash function.
    """

    def __init__(self, most: int, seed: int) -> None:
        self._most, self._seed = most, seed
        self._heap: list[tuple[int, str]] = []  # negative hashes: the largest hash is on top
        self._inside: set[int] = set()

    def add(self, texts: Iterable[str]) -> None:
        for text in texts:
            mark = xxhash.xxh3_64_intdigest(text.encode(), self._seed)
            if mark in self._inside or (len(self._heap) == self._most and mark >= -self._heap[0][0]):
                continue
            self._inside.add(mark)
            if len(self._heap) < self._most:
                heapq.heappush(self._heap, (-mark, text))
            else:
                self._inside.discard(-heapq.heapreplace(self._heap, (-mark, text))[0])

    def texts(self) -> list[str]:
        """The sample, in the order of the hashes."""
        return [text for _, text in sorted(self._heap, reverse=True)]
