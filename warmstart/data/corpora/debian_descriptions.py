"""The descriptions of all packages of Debian 12, from apt's own index: modern technical English with home pages.

The text is the title, then the description with its lines joined again; lines that are indented further (lists, code)
stay lines. One row per description; `id` is its hash in the index, the same in every language, so that the languages
are aligned. `url` is the home page as the package states it, `origin` the source package: split by it, for library,
`-dev` and `-doc` packages of one origin are near-duplicates. Of 25 MB English only 15 are distinct paragraphs (the same
boilerplate stands in many packages); the reader keeps them, since a text should be whole: remove repeated paragraphs by
curation where they matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row

# sha256 of the decoded list of descriptions, Debian 12.
TEXTS = {
    "en": "62f59c3cdca9786e4f7adf9002f9f5729a684adcb4667e58e448dec9b5a46c7f",
    "it": "f2010961f0968127812de8484ecead4f45b25b2cb6aeb788f9f25753fbd5cff7",
    "fr": "1b5ce81d2dac68fb27997899d9e092b8281f984baa658c22139d8f2640aec6cc",
    "de": "adac331fc51f9a00c1b4120b4ac87423be2b1f1615d4f288c7cbc2d5258c0650",
    "ja": "642792836c58facc19a735181fc1bc53ac211fc082ff141377fc6be2d2498259",
}
WANTED: tuple[str, ...] = ("Package", "Source", "Section", "Homepage", "Tag")


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per description: `title`, `url`, `section`, `package`, `origin`, `tags`."""
    about: dict[str, dict[str, str]] = {}  # by hash; of several packages with one description the first
    for stanza in stanzas(folder / "Packages"):
        wanted = {name: stanza[name] for name in WANTED if name in stanza}
        if "Description-md5" in stanza:
            about.setdefault(stanza["Description-md5"], wanted)
    seen = set()
    for stanza in stanzas(folder / "Translation"):
        key = stanza["Description-md5"]
        title, _, body = stanza[f"Description-{language}"].partition("\n")
        if key in seen or not title.strip():
            continue
        seen.add(key)
        package = about.get(key, {})
        name = package.get("Package", stanza["Package"])
        yield {
            "text": "\n\n".join([title.strip(), *paragraphs(body.split("\n"))]),
            "id": key,
            "title": title.strip(),
            "url": package.get("Homepage"),
            "section": package.get("Section"),
            "package": name,
            "origin": package.get("Source", name).split(" ")[0],
            "tags": [tag.strip() for tag in package["Tag"].replace("\n", " ").split(",")] if "Tag" in package else None,
        }


def stanzas(path: Path) -> Iterator[dict[str, str]]:
    """The stanzas of an RFC 822 file, one mapping each; lines that continue a value stay in it as they are."""
    fields: dict[str, str] = {}
    name = ""
    with path.open(encoding="utf-8") as file:
        for line in file:
            line = line.rstrip("\n")
            if not line:
                if fields:
                    yield fields
                fields = {}
            elif line[0] in " \t":
                fields[name] += "\n" + line
            else:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
    if fields:
        yield fields


def paragraphs(lines: Iterable[str]) -> list[str]:
    """A description's paragraphs: ` .` is a blank line; ordinary lines are joined, indented ones stay lines."""
    result: list[str] = []
    current: list[str] = []
    for line in [*lines, " ."]:
        if line.strip() in ("", "."):
            if current:
                result.append("\n".join(current))
            current = []
        elif current and not line.startswith("  ") and not current[-1].startswith(" "):
            current[-1] += " " + line.strip()
        else:
            current.append(line[1:].rstrip())
    return result


CORPUS = Corpus(
    name="debian-descriptions",
    title="Package descriptions of Debian 12 with home pages",
    licence="none stated for the index; each text is its package's",
    megabytes=25.5,
    rows=61_486,
    read=read,
    packages=tuple(
        Package(
            "debian-index",
            "bookworm",
            "12",
            ("Packages", f"Translation-{language}"),
            replaced=True,
            text_sha256=found,
            languages=(language,),
        )
        for language, found in TEXTS.items()
    ),
    columns=("title", "url", "section", "package", "origin", "tags"),
    languages=tuple(TEXTS),
)
