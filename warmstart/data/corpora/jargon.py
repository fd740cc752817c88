"""The Jargon File: the hackers' lexicon, with its essays.

An entry (`:kluge: /klooj/, n.`) is a row, and so is each chapter outside the lexicon; the table of contents is left
out. Lines are joined to paragraphs and the braces of `{cross references}` go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row
from warmstart.data.corpora.reflow import paragraphs
from warmstart.data.corpora.unpack import gunzip

FILE = "usr/share/doc/jargon-text/jargon.txt.gz"
HEAD = re.compile(r"^(?:   :(?P<entry>[^\n]+?): |(?P<chapter>(?:Chapter|Appendix)\s\w+\..*)$)", re.MULTILINE)
LINK = re.compile(r"\{([^{}]*)\}")
LETTER = re.compile(r"\n {0,2}[A-Z0-9][^\n]{0,20}\n*$")  # the heading of the next letter at the end of an entry


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per entry or chapter: `title`, `label` (`entry` or `chapter`), `links`."""
    content = gunzip(folder / FILE).decode("utf-8")
    heads = list(HEAD.finditer(content))
    for number, head in enumerate(heads):
        end = heads[number + 1].start() if number + 1 < len(heads) else len(content)
        kind = "entry" if head["entry"] else "chapter"
        entry = LETTER.sub("", content[head.start() : end])
        text = paragraphs(LINK.sub(r"\1", entry)).strip(":")
        if text.count("\n\n") or kind == "entry":
            links = [" ".join(link.split()) for link in LINK.findall(entry)]
            yield {
                "text": text,
                "id": str(number),
                "title": head["entry"] or head["chapter"].strip(),
                "label": kind,
                "links": list(dict.fromkeys(links)) or None,
            }


CORPUS = Corpus(
    name="jargon",
    title="The Jargon File 4.4.7",
    licence="public domain",
    megabytes=1.55,
    rows=2_121,
    read=read,
    packages=(
        Package(
            "debian",
            "jargon-text",
            "4.4.7-4.1",
            (FILE,),
            sha256="17d05997e30eb3d5d6713929b8e2f81b63a5f50073858ad2a06701c71f54dcdb",
        ),
    ),
    columns=("title", "label", "links"),
)
