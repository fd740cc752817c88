"""HTML as text: paragraphs between blank lines, without scripts and styles."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_BLOCKS = "p div h1 h2 h3 h4 h5 h6 li ul ol dl dt dd blockquote pre table tr td th center hr body head title form"
BLOCKS = set(_BLOCKS.split())
SILENT = {"script", "style", "noscript", "title"}


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SILENT:
            self.silent.append(tag)
        self.pieces.append("\n\n" if tag in BLOCKS else "\n" if tag == "br" else "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.silent:  # also ends what was left open inside it
            del self.silent[self.silent.index(tag) :]
        if tag in BLOCKS:
            self.pieces.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.pieces.append(re.sub(r"\s+", " ", data))


def text_of_html(source: str) -> str:
    """The visible text of an HTML page or fragment, however broken."""
    parser = _Text()
    parser.feed(source)
    parser.close()
    lines = [" ".join(line.split()) for line in "".join(parser.pieces).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
