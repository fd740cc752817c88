"""Formal mathematics: the axioms and theorems of Metamath's set.mm, each with its English comment, without the proofs.

The text is the comment, then the statement. In comments the marks of Metamath's own markup stay (`` ` ph ` ``,
`~ syl`); lines are joined. `statement` repeats the formula, so that comment and statement can be a pair. `year` is that
of the first contribution named in the comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row

FILE = "usr/share/metamath/databases/set.mm"
# A comment (kept), or a label with an axiom ($a) or theorem ($p) up to its proof ($=) or end ($.).
PIECE = re.compile(r"\$\(\s(.*?)\s\$\)|(\S+)\s+\$([ap])\s+(.*?)\s+\$[=.]", re.DOTALL)
CREDIT = re.compile(r"\(\s*Contributed\s+by\s+([^,()]+),\s+(\d{1,2}-[A-Z][a-z]{2}-(\d{4}))")
MARKUP = re.compile(r"\$t|[#=\-.*]{4,}|[#*=-]\.?[#*=-]\.[#*=-]")


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per axiom or theorem of logic: `title` (its label), `label`, `statement`, `author`, `year`."""
    comment = None
    for found in PIECE.finditer((folder / FILE).read_text(encoding="ascii")):
        if found[1] is not None:
            comment = None if MARKUP.match(found[1].lstrip()) else " ".join(found[1].split())
            continue
        statement = " ".join(re.sub(r"\$\(\s.*?\s\$\)", " ", found[4], flags=re.DOTALL).split())
        if comment:
            credit = CREDIT.search(comment)
            yield {
                "text": f"{comment}\n\n{statement}",
                "id": found[2],
                "title": found[2],
                "label": "axiom" if found[3] == "a" else "theorem",
                "statement": statement,
                "author": credit[1].strip() if credit else None,
                "year": int(credit[3]) if credit else None,
            }
        comment = None


CORPUS = Corpus(
    name="metamath",
    title="Axioms and theorems of Metamath's set.mm (mathematics)",
    licence="CC0",
    megabytes=8.76,
    rows=40_426,
    read=read,
    packages=(
        Package(
            "debian",
            "metamath-databases",
            "0.0.0~20210101.git55fe226-2",
            (FILE,),
            sha256="c72523c221db6c1039fa909150f9c53fb9175809792f2e80e55e1baa965445a1",
        ),
    ),
    columns=("title", "label", "statement", "author", "year"),
)
