"""Dictionaries in the format of dictd: a gzip file of entries, and an index of (headword, offset, length).

Several headwords may share one entry: an entry is one row. Lines are joined to paragraphs.

* GCIDE (Webster's of 1913 with additions) marks the source of each paragraph (`[1913 Webster]`): removed. A subject
  (`(Zool.)`) becomes `label` where an entry has exactly one, and subjects never stay in the text. Letters that ASCII
  has not are transcribed (`[=a]`): kept. Three stray bytes make it invalid as UTF-8: it is read as Windows-1252.
* FOLDOC (computing): `{cross references}` become `links`, the subject `<language>` becomes `label`, the date of the
  last change `year`; braces, subjects and dates do not stay in the text.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row
from warmstart.data.corpora.reflow import paragraphs
from warmstart.data.corpora.unpack import gunzip

FOLDER = "usr/share/dictd"
DIGITS = {c: n for n, c in enumerate(string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/")}
_SUBJECTS = "Zool Bot Chem Med Anat Naut Law Min Biol Mus Arch Mil Physiol Math Physics Astron Geol Mach Geom Her"
SUBJECTS = _SUBJECTS.split()  # the 20 that are used most: 395 times and more
GCIDE_SUBJECT = re.compile(rf"\s*\(({'|'.join(SUBJECTS)})\.?\)")
GCIDE_SOURCE = re.compile(r"\s*\[(?:(?:Webster )?1913|WordNet|PJC|Century)[^\]]*\]")
FOLDOC_SUBJECT = re.compile(r"<([a-z][a-z /,&+-]*)>\s*")
FOLDOC_DATE = re.compile(r"\n\s*\(((?:19|20)\d\d)-\d\d-\d\d\)\s*")
FOLDOC_LINK = re.compile(r"\{([^{}]*)\}")


def read_gcide(folder: Path, language: str) -> Iterator[Row]:
    """One row per entry: `title` (the headword), `label` (subject)."""
    for number, headword, entry in entries(folder / FOLDER, "gcide", "cp1252"):
        subjects = set(GCIDE_SUBJECT.findall(entry))
        text = paragraphs(GCIDE_SUBJECT.sub("", GCIDE_SOURCE.sub("", entry)))
        if text:
            label = subjects.pop() if len(subjects) == 1 else None
            yield {"text": text, "id": str(number), "title": headword, "label": label}


def read_foldoc(folder: Path, language: str) -> Iterator[Row]:
    """One row per entry: `title`, `label` (subject), `links`, `year`."""
    for number, headword, entry in entries(folder / FOLDER, "foldoc", "utf-8"):
        dates = FOLDOC_DATE.findall(entry)
        subjects = set(FOLDOC_SUBJECT.findall(entry))
        links = [" ".join(link.split()) for link in FOLDOC_LINK.findall(entry)]
        text = FOLDOC_LINK.sub(r"\1", FOLDOC_SUBJECT.sub("", FOLDOC_DATE.sub("\n\n", entry)))
        yield {
            "text": paragraphs(text),
            "id": str(number),
            "title": headword,
            "label": subjects.pop() if len(subjects) == 1 else None,
            "links": list(dict.fromkeys(link for link in links if "://" not in link)) or None,
            "year": int(dates[-1]) if dates else None,
        }


def entries(folder: Path, name: str, encoding: str) -> Iterator[tuple[int, str, str]]:
    """(offset, first headword in the entry itself, entry) in the order of the file; notes on the database left out."""
    content = gunzip(folder / f"{name}.dict.dz")
    spans: dict[tuple[int, int], bool] = {}
    for line in (folder / f"{name}.index").read_bytes().splitlines():
        headword, offset, length = line.decode("utf-8", "replace").split("\t")[:3]
        span = (number(offset), number(length))
        spans[span] = spans.get(span, False) or headword.startswith("00-database")
    for (start, size), note in sorted(spans.items()):
        if start + size > len(content):
            raise ValueError(f"{name}.index names byte {start + size}, the dictionary has {len(content)}")
        entry = content[start : start + size].decode(encoding)
        if not note and entry.strip():
            yield start, _headword(entry), entry


def number(digits: str) -> int:
    """A number of the index: base 64, the highest digit first."""
    value = 0
    for digit in digits:
        value = value * 64 + DIGITS[digit]
    return value


def _headword(entry: str) -> str:
    """The beginning of an entry, before the pronunciation of GCIDE."""
    return entry.strip().split("\n", 1)[0].split(" \\", 1)[0].strip()


GCIDE = Corpus(
    name="gcide",
    title="Collaborative International Dictionary of English (Webster 1913)",
    licence="GPL-2+",
    megabytes=30.94,
    rows=126_236,
    read=read_gcide,
    packages=(
        Package(
            "debian",
            "dict-gcide",
            "0.48.5+nmu2",
            (f"{FOLDER}/gcide.*",),
            sha256="7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f",
        ),
    ),
    columns=("title", "label"),
)
FOLDOC = Corpus(
    name="foldoc",
    title="Free On-line Dictionary of Computing",
    licence="GFDL 1.1+",
    megabytes=4.82,
    rows=12_014,
    read=read_foldoc,
    packages=(
        Package(
            "debian",
            "dict-foldoc",
            "20230119-1",
            (f"{FOLDER}/foldoc.*",),
            sha256="745cbedb55c2da609cc88ee0284e9d11a67a11ae3709daf7bad0e895ac3294c3",
        ),
    ),
    columns=("title", "label", "links", "year"),
)
