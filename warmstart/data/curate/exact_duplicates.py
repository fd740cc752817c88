"""Drop exact copies: rows whose text, with white space normalised, was seen before (in any source of the
stage).

A copy that sits on both sides of the split would be a leak, and a repeated page is the commonest defect of
web text. Remembers 16 bytes per distinct text (about 100 bytes in memory): ten million documents need 1 GB.
Near-identical copies (a changed date, a missing footer) are not found; that is what MinHash is for.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from warmstart.data.curate import Columns, Curation, RowStep


def text_digest(text: str) -> bytes:
    """16 bytes that two texts share exactly where they differ in white space at most."""
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()


class ExactDuplicates(Curation):
    """Keeps the first of equal texts, in the order of reading."""

    type: Literal["exact-duplicates"] = "exact-duplicates"

    def start(self) -> RowStep:
        return _SeenTexts()


class _SeenTexts(RowStep):
    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, columns: Columns) -> Columns:
        keep = []
        for number, text in enumerate(columns["text"]):
            mark = text_digest(text)
            if mark not in self._seen:
                self._seen.add(mark)
                keep.append(number)
        return {name: [values[number] for number in keep] for name, values in columns.items()}
