"""The help of LibreOffice in English, German and French, aligned: one row per paragraph or heading.

`id` is the page and the element's id, the same in every language, so that rows with equal `id` are translations of each
other (a sixth of them are identical: code). Only `div#DisplayArea` is read, and nothing that is hidden: the pages hold
the names of keys for several systems side by side, which would be glued together ("BefehlStrg").
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row

FOLDER = "usr/share/libreoffice/help"
VERSION = "4:7.4.7-1+deb12u14"
LANGUAGES = {"en": "en-US", "de": "de", "fr": "fr"}
SEGMENTS = {"p", "h1", "h2", "h3", "h4", "h5", "h6"}
VOID = {"br", "img", "meta", "input", "hr", "link", "area", "base", "col", "embed", "source", "track", "wbr"}


class Segments(HTMLParser):
    """Collects (id, text) of the paragraphs and headings inside the display area."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, str] = {}
        self._open: list[tuple[str, str]] = []  # (tag, what it means: "area", "hidden", "segment" or "")
        self._id = ""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in VOID:
            self._text.append(" ")
            return
        given = dict(attrs)
        meaning = ""
        if tag == "div" and given.get("id") == "DisplayArea":
            meaning = "area"
        elif given.get("hidden") == "true":
            meaning = "hidden"
        elif tag in SEGMENTS and given.get("id"):
            self._finish()
            meaning, self._id = "segment", given["id"] or ""
        self._open.append((tag, meaning))

    def handle_endtag(self, tag: str) -> None:
        place = next((n for n in range(len(self._open) - 1, -1, -1) if self._open[n][0] == tag), None)
        if place is None:
            return
        if any(meaning == "segment" for _, meaning in self._open[place:]):
            self._finish()
        del self._open[place:]

    def handle_data(self, data: str) -> None:
        meanings = {meaning for _, meaning in self._open}
        if self._id and "area" in meanings and "hidden" not in meanings:
            self._text.append(data)

    def _finish(self) -> None:
        text = " ".join("".join(self._text).split())
        if self._id and text:
            self.found.setdefault(self._id, text)
        self._id, self._text = "", []


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per segment: `section` (the module: `swriter`, ...), `title` (of the page)."""
    root = folder / FOLDER / LANGUAGES[language] / "text"
    for path in sorted(root.rglob("*.html")):
        parser = Segments()
        parser.feed(path.read_text(encoding="utf-8"))
        parser.close()
        page = path.relative_to(root).with_suffix("").as_posix()
        title = next(iter(parser.found.values()), None)
        for key, text in parser.found.items():
            yield {"text": text, "id": f"{page}#{key}", "section": page.split("/")[0], "title": title}


def _package(language: str, sha256: str, text_sha256: str) -> Package:
    return Package(
        "debian",
        f"libreoffice-help-{LANGUAGES[language].lower()}",
        VERSION,
        (f"{FOLDER}/{LANGUAGES[language]}/text/*.html",),
        sha256=sha256,
        replaced=True,
        text_sha256=text_sha256,
        languages=(language,),
    )


CORPUS = Corpus(
    name="libreoffice-help",
    title="LibreOffice help, aligned in three languages",
    licence="MPL-2.0",
    megabytes=3.56,
    rows=60_776,
    read=read,
    packages=(
        _package(
            "en",
            "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
            "f7310716a9fd8645f761f94cfd9b9742a0c7209af3f2cf36fc81f9f7ddc39db2",
        ),
        _package(
            "de",
            "00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f",
            "00d098cf655caa96986e5148541f03e8a2e16b0bac4b7665cc455687f6248407",
        ),
        _package(
            "fr",
            "c796530d3e95af1ea4d054076682efc8aad2b569ae9513f3d4a776b2df3fd206",
            "eaca3c37211c7c27673beca0aa38dc8b47d94306e2bb0ff19f901492efe5bed2",
        ),
    ),
    columns=("section", "title"),
    languages=tuple(LANGUAGES),
)
