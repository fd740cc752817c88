"""An Anarchist FAQ: eleven megabytes of modern argumentative English, one page per row.

One viewpoint: balance it with other texts. The package has the pages a second time as Markdown; the HTML is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row
from warmstart.data.corpora.markup import text_of_html

FOLDER = "usr/share/doc/anarchism/html"


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per page: `title`, `section` (A to J, or `append`, ...)."""
    for path in sorted((folder / FOLDER).glob("*.html")):
        source = path.read_text(encoding="utf-8")
        text = text_of_html(source)
        heading = re.search(r"<h1[^>]*>(.*?)</h1>", source, re.DOTALL)
        section = re.match(r"sec([A-J])|([a-z]+)", path.stem)
        if text:
            yield {
                "text": text,
                "id": path.stem,
                "title": text_of_html(heading[1]) or None if heading else None,
                "section": (section[1] or section[2]) if section else None,
            }


CORPUS = Corpus(
    name="anarchism",
    title="An Anarchist FAQ",
    licence="GPL-2",
    megabytes=11.44,
    rows=143,
    read=read,
    packages=(
        Package(
            "debian",
            "anarchism",
            "15.3-3",
            (f"{FOLDER}/*.html",),
            sha256="cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948",
        ),
    ),
    columns=("title", "section"),
)
