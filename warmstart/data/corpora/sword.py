"""Modules of the SWORD project, read without its library: the King James Bible and two commentaries, by chapter.

A module is pairs of files per testament: `*s` has (offset, size, unpacked size) of each block, `*z` the blocks, packed
with zlib. Unpacked, the blocks of a testament follow each other as one OSIS (XML) text with a mark at each chapter.
Tags are removed; the notes of the Bible go with their content; what stands before a book's first chapter is chapter 0.
"""

from __future__ import annotations

import html
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Reader, Row
from warmstart.data.corpora.unpack import LIMIT_BYTES

FOLDER = "usr/share/sword/modules"
MARK = re.compile(r'<(?:chapter n="[^"]*" osisID="(?P<chapter>[^"]+)" sID|div [^>]*osisID="(?P<book>\w+)" sID)[^>]*>')
NAME = re.compile(r'<milestone n="([^"]+)" type="x-usfm-(?:h|toc1)"/>')
NOTE = re.compile(r"<note\b.*?</note>", re.DOTALL)
PARAGRAPH = re.compile(r'<div [^>]*type="(?:x-p|x-s)"[^>]*/>|</?(?:title|lg|list|table)\b[^>]*>')
LINE = re.compile(r"<(?:lb|/row|/item|l)\b[^>]*>")
TAG = re.compile(r"<[^>]+>")


def reader(module: str) -> Reader:
    """Reads a module's folder: one row per chapter; `section` is the book, `id` the OSIS name of the chapter."""

    def read(folder: Path, language: str) -> Iterator[Row]:
        for index in sorted((folder / FOLDER / module).glob("[on]t.?zs"), key=lambda p: p.name.startswith("nt")):
            yield from chapters(unpacked(index))

    return read


def unpacked(index: Path) -> str:
    """The text of a testament."""
    packed = index.with_name(index.name[:-1] + "z").read_bytes()
    blocks, total = [], 0
    for offset, size, length in struct.iter_unpack("<III", index.read_bytes()):
        total += length
        if total > LIMIT_BYTES or offset + size > len(packed):
            raise ValueError(f"{index.name} names a block that is too large or not in the file")
        block = zlib.decompressobj().decompress(packed[offset : offset + size], length)
        blocks.append(block)
    return b"".join(blocks).decode("utf-8")


def chapters(osis: str) -> Iterator[Row]:
    """Cuts an OSIS text at its chapters."""
    marks = list(MARK.finditer(osis))
    book, title = "", None
    for number, mark in enumerate(marks):
        end = marks[number + 1].start() if number + 1 < len(marks) else len(osis)
        source = osis[mark.end() : end]
        if mark["book"]:
            book = mark["book"]
            named = NAME.search(source)
            title = html.unescape(named[1]) if named else book
        text = plain(source)
        if text:
            yield {"text": text, "id": mark["chapter"] or f"{book}.0", "section": book, "title": title}


def plain(source: str) -> str:
    """OSIS as text: paragraphs between blank lines."""
    text = " ".join(NOTE.sub("", source).split())
    text = TAG.sub("", LINE.sub("\n", PARAGRAPH.sub("\n\n", text.replace("</cell>", " "))))
    lines = [" ".join(line.split()) for line in html.unescape(text).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _package(name: str, version: str, module: str, sha256: str) -> tuple[Package, ...]:
    return (Package("debian", name, version, (f"{FOLDER}/{module}/?t.?z[sz]",), sha256=sha256),)


KJV = Corpus(
    name="kjv",
    title="King James Bible",
    licence="public domain",
    megabytes=4.17,
    rows=1_255,
    read=reader("texts/ztext/engKJV2006eb"),
    packages=_package(
        "sword-text-kjv",
        "14.3-1",
        "texts/ztext/engKJV2006eb",
        "9f463f28ce665f6f528fc723179722bced880a4c5485f7a41bf742838315de57",
    ),
    columns=("section", "title"),
)
TREASURY_OF_DAVID = Corpus(
    name="treasury-of-david",
    title="The Treasury of David (Spurgeon's commentary on the Psalms)",
    licence="public domain",
    megabytes=11.82,
    rows=151,
    read=reader("comments/zcom/tdavid"),
    packages=_package(
        "sword-comm-tdavid",
        "2.1-1",
        "comments/zcom/tdavid",
        "bcbfad701c5c4a061475b58309cebc42755a59e87478c8355227c5e046412b3f",
    ),
    columns=("section", "title"),
)
MHCC = Corpus(
    name="mhcc",
    title="Matthew Henry's Concise Commentary on the Bible",
    licence="public domain",
    megabytes=3.94,
    rows=1_194,
    read=reader("comments/zcom/mhcc"),
    packages=_package(
        "sword-comm-mhcc",
        "2.0-1",
        "comments/zcom/mhcc",
        "06f748215de78ff48fdfdee93e3ffc5af6318b976485f7aedf22309236967e35",
    ),
    columns=("section", "title"),
)
