"""Drop exact copies: rows whose text (and context, where their source gave one), with white space normalised, was
seen before in any source of the stage.

A copy that sits on both sides of the split would be a leak, and a repeated page is the commonest defect of
web text. Remembers 16 bytes per distinct text (about 100 bytes in memory): ten million documents need 1 GB.
Near-identical copies (a changed date, a missing footer) are not found; that is what MinHash is for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from warmstart.data.curate import Curation
from warmstart.data.steps import Columns, Stream, kept, whole_texts


def text_digest(text: str) -> bytes:
    """16 bytes that two texts share exactly where they differ in white space at most."""
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()


class ExactDuplicates(Curation):
    """Keeps the first of equal texts, in the order of reading."""

    type: Literal["exact-duplicates"] = "exact-duplicates"
    fits: ClassVar[bool] = True

    def measure(self, columns: Columns) -> Columns:
        return {"row": columns["row"], "digest": [text_digest(text) for text in whole_texts(columns)]}

    def fit(self, measured: Iterator[Columns]) -> set[int]:
        """The numbers of the rows that repeat an earlier one."""
        seen = _SeenTexts()
        return {
            row
            for columns in measured
            for row, new in zip(columns["row"], seen.new(columns["digest"]), strict=True)
            if not new
        }

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        return kept(columns, [row not in fitted for row in columns["row"]])

    def stream(self) -> Stream:
        seen = _SeenTexts()
        return lambda columns: kept(columns, seen.new([text_digest(text) for text in whole_texts(columns)]))


class _SeenTexts:
    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def new(self, digests: list[bytes]) -> list[bool]:
        """Whether each digest comes for the first time."""
        flags = []
        for digest in digests:
            flags.append(digest not in self._seen)
            self._seen.add(digest)
        return flags
