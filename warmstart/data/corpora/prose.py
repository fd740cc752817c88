"""The prose mixes: freely licensed general English, some sixty megabytes from ten corpora, and a hundred from thirteen.

Each text keeps its own `source` and metadata, so every part can be a domain of its own (`where: {source: brown}`).
Paragraphs shorter than 30 characters (headings, stage directions, numbers) and exact repetitions of a paragraph,
whichever part had it first, are left out. Old and religious English dominates; for modern English take `brown`,
`wiki-leads`, `anarchism` and the later addresses of `sotu`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from warmstart.data.corpora.corpus import Corpus, Row

SHORTEST = 30
BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def distinct_paragraphs(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows without short and repeated paragraphs; a row that loses them all is left out. `id`: `source/id`.

    Holds a hash of 16 bytes for every paragraph.
    """
    seen: set[bytes] = set()
    for row in rows:
        kept = []
        for paragraph in BLANK_LINES.split(row["text"]):
            text = paragraph.strip()
            if len(text) < SHORTEST:
                continue
            mark = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if mark not in seen:
                seen.add(mark)
                kept.append(text)
        if kept:
            yield {**row, "text": "\n\n".join(kept), "id": f"{row['source']}/{row['id']}"}


PARTS = (
    "treasury-of-david",
    "anarchism",
    "sotu",
    "brown",
    "wiki-leads",
    "shakespeare",
    "kjv",
    "jane-austen",
    "mhcc",
    "moby-dick",
)
MORE_PARTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("gcide", {}),
    ("spam-assassin", {"label": "ham"}),
    ("fortunes", {}),
)
COLUMNS = ("year", "author", "label", "genre", "title", "section", "url")

PROSE = Corpus(
    name="prose",
    title="General English prose: ten corpora without repeated paragraphs",
    licence="that of each part; see the parts",
    use="for research: Brown is a part of it",
    megabytes=62.75,
    rows=14_668,
    read=None,
    parts=tuple((name, {}) for name in PARTS),
    columns=COLUMNS,
)
PROSE_EXTENDED = Corpus(
    name="prose-extended",
    title="The prose mix with a dictionary, mail and fortune cookies",
    licence="that of each part; see the parts",
    use="for research, and not to be passed on: Brown, mails and fortune cookies are parts of it",
    megabytes=102.29,
    rows=158_500,
    read=None,
    parts=(*((name, {}) for name in PARTS), *MORE_PARTS),
    columns=COLUMNS,
)
