"""Paragraphs as rows of their own: short texts with the lengths that real writing has.

A paragraph ends at an empty line. Rewriting comes after the split, so that all paragraphs of a document are on its
side.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from warmstart.data.rewrite import Rewrite
from warmstart.data.steps import Columns, chosen, column

EMPTY_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")


def paragraphs(text: str, shortest: int = 1) -> list[str]:
    """The pieces between empty lines, in order, indentation kept; those below `shortest` characters are left out."""
    pieces = (piece.strip("\n").rstrip() for piece in EMPTY_LINES.split(text))
    return [piece for piece in pieces if len(piece.strip()) >= shortest]


class Paragraphs(Rewrite):
    """Each paragraph becomes a row; its id is the document's with the paragraph's number."""

    type: Literal["paragraphs"] = "paragraphs"
    shortest: int = Field(1, ge=1, description="Shorter paragraphs (in characters) are left out.")

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        pieces = [paragraphs(text, self.shortest) for text in column(columns, "text")]
        rows = [row for row, found in enumerate(pieces) for _ in found]
        changed = chosen(columns, rows) | {"text": [piece for found in pieces for piece in found]}
        if "id" in columns:
            names = [f"{columns['id'][row]}#{n}" for row, found in enumerate(pieces) for n in range(len(found))]
            changed["id"] = names
        return changed
