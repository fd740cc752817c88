"""Words for pictures, without the pictures: names of emoji, captions of clip art and of stamps.

* Emoji: the names and keywords of Unicode's emoji in 27 locales (skin tones are not rows).
* Openclipart: the text is the words of the file's name, then the keywords; the SVG file's own metadata (`title`,
  `description`, `author`) stands beside it. It is noisy by nature: titles are often those of a collection, keywords say
  "hash" or "unsorted". Links to other files are not read; files without metadata have the words of their name alone.
* Tux Paint: the stamps' captions in English and 77 other languages; `id` is the same in all.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row

_LOCALES = "en bn da de en-gb es-mx es et fi fr hi hu it ja ko lt ms nb nl pl pt ru sv th uk vi zh-hant zh"
CLIPART = "usr/share/openclipart/svg"
STAMPS = "usr/share/tuxpaint/stamps"
_STAMP_LANGUAGES = (
    "en ach af ak am an ar ast be bg ca ca@valencia cs cy da de el en_AU en_GB eo es eu fa ff fi fr ga gd gl gu he hi "
    "hr hu hy id is it iu ja ka kab km ko ku lt lv mk ml ms nb nl nn nso oc pl pt pt_BR ro ru shs sk sl son sq sr "
    "sr@latin sv sw ta th tr uk vec vi zh_CN zh_TW zu"
)
WORK = re.compile(r"<(?:\w+:)?Work\b.*?</(?:\w+:)?Work>", re.DOTALL)


def read_emoji(folder: Path, language: str) -> Iterator[Row]:
    """One row per emoji: `emoji`, `tags`, `label` (group), `section` (subgroup); `id` is its code."""
    names = json.loads((folder / "package" / "meta" / "groups.json").read_bytes())
    for found in json.loads((folder / "package" / language / "data.json").read_bytes()):
        if found["label"].strip():
            yield {
                "text": found["label"].strip(),
                "id": found["hexcode"],
                "emoji": found["emoji"],
                "tags": found.get("tags") or None,
                "label": names["groups"].get(str(found.get("group"))),
                "section": names["subgroups"].get(str(found.get("subgroup"))),
            }


def read_clipart(folder: Path, language: str) -> Iterator[Row]:
    """One row per picture: `title`, `description`, `tags`, `author`, `section` (top folder), `folder`."""
    root = folder / CLIPART
    for path in sorted(root.rglob("*.svg")):
        work = WORK.search(path.read_bytes().decode("utf-8", "replace"))
        about = work[0] if work else ""
        tags = [
            tag for tag in (_clean(found) for found in re.findall(r"<rdf:li>(.*?)</rdf:li>", about, re.DOTALL)) if tag
        ]
        name = path.relative_to(root).with_suffix("")
        words = re.sub(r"[_\W]+|\d+$", " ", name.name).strip()
        words = re.sub(r"\s+\d+$", "", words)
        yield {
            "text": ", ".join([words, *tags]) if words else ", ".join(tags) or name.as_posix(),
            "id": name.as_posix(),
            "title": _element(about, "title"),
            "description": _element(about, "description"),
            "tags": tags or None,
            "author": _element(_inside(about, "creator"), "title"),
            "section": name.parts[0] if len(name.parts) > 1 else None,
            "folder": name.parent.as_posix(),
        }


def read_stamps(folder: Path, language: str) -> Iterator[Row]:
    """One row per stamp that has a caption in this language: `section` (top folder), `folder`."""
    root = folder / STAMPS
    for path in sorted(root.rglob("*.txt")):
        lines = path.read_text(encoding="utf-8").split("\n")
        captions = {"en": lines[0]}
        for line in lines[1:]:
            code, mark, caption = line.partition(".utf8=")
            if mark:
                captions.setdefault(code.strip(), caption)
        text = captions.get(language, "").strip()
        name = path.relative_to(root).with_suffix("")
        if text:
            yield {"text": text, "id": name.as_posix(), "section": name.parts[0], "folder": name.parent.as_posix()}


def _inside(source: str, element: str) -> str:
    found = re.search(rf"<dc:{element}\b[^/>]*>(.*?)</dc:{element}>", source, re.DOTALL)
    return found[1] if found else ""


def _element(source: str, element: str) -> str | None:
    return _clean(_inside(source, element)) or None


def _clean(source: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", source)).split())


EMOJI_NAMES = Corpus(
    name="emoji-names",
    title="Names and keywords of emoji in 28 locales",
    licence="MIT",
    megabytes=0.026,
    rows=1_949,
    read=read_emoji,
    packages=(
        Package(
            "npm",
            "emojibase-data",
            "17.0.0",
            ("package/*/data.json", "package/meta/groups.json"),
            sha256="d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
        ),
    ),
    columns=("emoji", "tags", "label", "section"),
    languages=tuple(_LOCALES.split()),
)
OPENCLIPART_CAPTIONS = Corpus(
    name="openclipart-captions",
    title="Captions and keywords of clip art",
    licence="public domain",
    megabytes=0.35,
    rows=7_458,
    read=read_clipart,
    packages=(
        Package(
            "debian",
            "openclipart-svg",
            "1:0.18+dfsg-19",
            (f"{CLIPART}/*.svg",),
            sha256="989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
        ),
    ),
    columns=("title", "description", "tags", "author", "section", "folder"),
)
TUXPAINT_CAPTIONS = Corpus(
    name="tuxpaint-captions",
    title="Captions of Tux Paint's stamps in 78 languages",
    licence="GPL-2",
    use="the package has the pictures too: 161 MB are fetched for 0.02 MB of captions",
    megabytes=0.02,
    rows=952,
    read=read_stamps,
    packages=(
        Package(
            "debian",
            "tuxpaint-stamps-default",
            "2022.06.04-1",
            (f"{STAMPS}/*.txt",),
            sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        ),
    ),
    columns=("section", "folder"),
    languages=tuple(_STAMP_LANGUAGES.split()),
)
