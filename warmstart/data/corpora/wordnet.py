"""The glosses of WordNet 3.0: one row per set of synonyms, with its words and the graph above it.

`label` is the lexicographer's file (45 of them: `noun.animal`, `verb.motion`, ...). The gloss keeps its examples, which
stand in quotes after the definition. Files are Latin-1 and begin with the licence, in lines that begin with two spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row

FOLDER = "usr/share/wordnet"
PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
_FILES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition "
    "noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person "
    "noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition "
    "verb.consumption verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social "
    "verb.stative verb.weather adj.ppl"
)
LEXICOGRAPHER_FILES = _FILES.split()  # by number
MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per synset: `title` (its first word), `words`, `label`, `genre` (part of speech), `hypernyms` (ids)."""
    for part in PARTS_OF_SPEECH:
        with (folder / FOLDER / f"data.{part}").open(encoding="latin-1") as file:
            for line in file:
                if not line.startswith("  "):
                    yield _row(line, part)


def _row(line: str, part: str) -> Row:
    data, _, gloss = line.partition(" | ")
    offset, number, _, count, *rest = data.split()
    size = int(count, 16)
    words = [MARKER.sub("", word).replace("_", " ") for word in rest[: 2 * size : 2]]
    pointers = rest[2 * size + 1 :]
    above = [
        f"{pointers[4 * n + 2]}{pointers[4 * n + 1]}"
        for n in range(int(rest[2 * size]))
        if pointers[4 * n] in ("@", "@i")
    ]
    return {
        "text": gloss.strip(),
        "id": f"{'a' if part == 'adj' else 'r' if part == 'adv' else part[0]}{offset}",
        "title": words[0],
        "words": words,
        "label": LEXICOGRAPHER_FILES[int(number)],
        "genre": part,
        "hypernyms": above or None,
    }


CORPUS = Corpus(
    name="wordnet-glosses",
    title="Glosses of WordNet 3.0",
    licence="WordNet 3.0 (free, with its notice)",
    megabytes=8.85,
    rows=117_659,
    read=read,
    packages=(
        Package(
            "debian",
            "wordnet-base",
            "1:3.0-37",
            tuple(f"{FOLDER}/data.{part}" for part in PARTS_OF_SPEECH),
            sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        ),
    ),
    columns=("title", "words", "label", "genre", "hypernyms"),
)
