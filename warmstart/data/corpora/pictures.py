"""Pictures with words: emoji of two vendors, clip art, stamps. The words are those of `captions.py`.

* Emoji: each of Unicode's emoji (skin tones aside) as Google and as Twitter draw it, 64 x 64 pixels. The text is the
  name and two of the emoji's keywords, drawn for each picture by its id, so that two pictures of one emoji often have
  different texts; the name alone is in `title`. Only the vendor's own pictures are read, never the packages' sheets:
  where a vendor lacks an emoji, those show another's.
* Openclipart: a PNG for nearly every SVG; 1,375 nearly identical stars are left out. 17 pictures are larger than may
  be opened (`on_error: skip` counts and leaves them out).
* Tux Paint: the stamps that are PNG files, drawings and photographs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.captions import (
    EMOJI_NAMES,
    OPENCLIPART_CAPTIONS,
    STAMPS,
    TUXPAINT_CAPTIONS,
    read_clipart,
    read_emoji,
    read_stamps,
)
from warmstart.data.corpora.corpus import Corpus, Package, Row
from warmstart.randomness import numpy_generator

VENDORS = ("google", "twitter")
CLIPART_PNG = "usr/share/openclipart/png"
STARS_AUTHOR = "codifiedivining"


def read_emoji_pictures(folder: Path, language: str) -> Iterator[Row]:
    """One row per emoji and vendor: `image`, `title` (the name), `emoji`, `tags`, `label` (group), `section`
    (subgroup), `vendor`; `id` is vendor/code."""
    named = {_plain(row["id"]): row for row in read_emoji(folder, language)}
    for vendor in VENDORS:
        for file in sorted((folder / "package" / "img" / vendor / "64").glob("*.png")):
            row = named.get(_plain(file.stem))
            if row is None:  # a skin tone
                continue
            name = f"{vendor}/{_plain(file.stem)}"
            words = sorted(set(row["tags"] or ()) - {row["text"]})
            chosen = numpy_generator(0, "emoji", name).permutation(len(words))[:2]
            yield {
                **row,
                "text": ", ".join([row["text"], *(words[number] for number in sorted(chosen))]),
                "id": name,
                "title": row["text"],
                "vendor": vendor,
                "image": file.read_bytes(),
            }


def read_clipart_pictures(folder: Path, language: str) -> Iterator[Row]:
    """The rows of `openclipart-captions` that have a picture, with it."""
    for row in read_clipart(folder, language):
        file = folder / CLIPART_PNG / f"{row['id']}.png"
        if row["author"] != STARS_AUTHOR and file.is_file():
            yield {**row, "image": file.read_bytes()}


def read_stamp_pictures(folder: Path, language: str) -> Iterator[Row]:
    """The rows of `tuxpaint-captions` that have a picture, with it."""
    for row in read_stamps(folder, language):
        file = folder / STAMPS / f"{row['id']}.png"
        if file.is_file():
            yield {**row, "image": file.read_bytes()}


def _plain(code: str) -> str:
    """A code in lower case without variation selectors, by which the packages differ."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


EMOJI = Corpus(
    name="emoji",
    title="Emoji of two vendors with names and keywords",
    licence="Apache-2.0 (Google's pictures), CC-BY-4.0 (Twitter's), MIT (words)",
    use="name Twitter's emoji (Twemoji) as a source",
    megabytes=0.11,
    rows=3_822,
    read=read_emoji_pictures,
    packages=(
        *EMOJI_NAMES.packages,
        Package(
            "npm",
            "emoji-datasource-google",
            "16.0.0",
            ("package/img/google/64/*.png",),
            sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
        ),
        Package(
            "npm",
            "emoji-datasource-twitter",
            "16.0.0",
            ("package/img/twitter/64/*.png",),
            sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
        ),
    ),
    columns=("image", "title", "emoji", "tags", "label", "section", "vendor"),
    languages=EMOJI_NAMES.languages,
)
OPENCLIPART = Corpus(
    name="openclipart",
    title="Clip art with captions and keywords",
    licence="public domain",
    use="17 of its pictures are too large to be opened: data.on_error: skip",
    megabytes=0.26,
    rows=5_524,
    read=read_clipart_pictures,
    packages=(
        *OPENCLIPART_CAPTIONS.packages,
        Package(
            "debian",
            "openclipart-png",
            "1:0.18+dfsg-19",
            (f"{CLIPART_PNG}/*.png",),
            sha256="f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
        ),
    ),
    columns=("image", *OPENCLIPART_CAPTIONS.columns),
)
TUXPAINT_STAMPS = Corpus(
    name="tuxpaint-stamps",
    title="Tux Paint's stamps with captions in 78 languages",
    licence="GPL-2",
    megabytes=0.02,
    rows=785,
    read=read_stamp_pictures,
    packages=tuple(
        Package(p.registry, p.name, p.version, (*p.files, f"{STAMPS}/*.png"), p.sha256)
        for p in TUXPAINT_CAPTIONS.packages
    ),
    columns=("image", *TUXPAINT_CAPTIONS.columns),
    languages=TUXPAINT_CAPTIONS.languages,
)
