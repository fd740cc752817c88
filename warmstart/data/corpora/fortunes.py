"""Fortune cookies: short quotes and jokes in 40 topical files.

A `%` alone on a line separates them. Index files (`.dat`) and links (`.u8`) repeat the files and are not read; letters
that are struck over (`_\\bx`) are single letters again. Some are offensive: also a ready pool of undesired text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row

FOLDER = "usr/share/games/fortunes"


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per cookie: `label` is its topic."""
    for path in sorted((folder / FOLDER).iterdir()):
        if path.suffix in (".dat", ".u8"):
            continue
        content = re.sub(".\x08", "", path.read_text(encoding="utf-8"))
        for number, cookie in enumerate(re.split(r"^%[ \t]*(?:\n|$)", content, flags=re.MULTILINE)):
            if cookie.strip():
                yield {"text": cookie.strip("\n"), "id": f"{path.name}/{number}", "label": path.name}


CORPUS = Corpus(
    name="fortunes",
    title="Fortune cookies",
    licence="BSD (program); the quotes have no clear licence",
    use="quotes of many authors, some offensive: for research, and not to be passed on",
    megabytes=2.43,
    rows=14_396,
    read=read,
    packages=(
        Package(
            "debian",
            "fortunes",
            "1:1.99.1-7.3",
            (f"{FOLDER}/*",),
            sha256="41d0551dc0ff52f875a2ecef7c39da2f672ab468c37e170119f7e0245a9d63c5",
        ),
    ),
    columns=("label",),
)
