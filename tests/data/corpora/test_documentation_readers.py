"""Readers of documentation, package descriptions and captions, on tiny files in the form of the real ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from warmstart.data.corpora import captions, debian_descriptions, libreoffice_help, pictures, rst_docs


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


# ---- Python's and the kernel's documentation -----------------------------------------------------------------------


def test_kernel_docs_in_english_and_translated(tmp_path: Path) -> None:
    pages = {
        "index": "Top\n===\n",
        "networking/bonding": ".. SPDX\n\n=======\nBonding\n=======\n\nText.\n",
        "networking/empty": "\n",
        "translations/zh_CN/admin-guide/index": "标题\n====\n",
        "translations/index": "Translations\n============\n",
    }
    packed = {f"{rst_docs.KERNEL}/{n}.rst.gz": gzip.compress(text.encode()) for n, text in pages.items()}
    copy = "usr/share/doc/linux-doc-6.1/html/_sources/index.rst.txt"
    write(tmp_path, {**packed, copy: pages["index"]})
    rows = list(rst_docs.read_kernel(tmp_path, "en"))
    assert [(row["id"], row["section"], row["url"], row["title"]) for row in rows] == [
        ("index", None, "docs.kernel.org", "Top"),
        ("networking/bonding", "networking", "docs.kernel.org/networking", "Bonding"),
    ]
    (chinese,) = rst_docs.read_kernel(tmp_path, "zh-CN")
    assert (chinese["id"], chinese["text"], chinese["section"]) == ("admin-guide/index", "标题\n====", "admin-guide")
    from fnmatch import fnmatchcase

    assert not any(fnmatchcase(copy, pattern) for pattern in rst_docs.KERNEL_DOCS.packages[0].files)


def test_python_docs(tmp_path: Path) -> None:
    write(tmp_path, {f"{rst_docs.PYTHON}/library/abc.rst.txt": ":mod:`abc`\n==========\n\nText"})
    (row,) = rst_docs.read_python(tmp_path, "en")
    assert (row["id"], row["url"], row["title"]) == ("library/abc", "docs.python.org/library", ":mod:`abc`")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("a\nb", None),
        ("===\n===\nYes\n===", "Yes"),
        (".. x\n----\nYes\n~~~", "Yes"),
        ("----\n\nx", None),
        ("Long title\n==", None),
    ],
)
def test_titles(text: str, title: str | None) -> None:
    assert rst_docs.title(text) == title


# ---- Debian --------------------------------------------------------------------------------------------------------

PACKAGES = """Package: liba-dev
Source: a (1.2)
Homepage: https://github.com/x/a
Section: libdevel
Tag: role::app-data, use::gameplaying,
 x11::application
Description-md5: 11

Package: b
Section: games
Description-md5: 22

Package: liba-dev
Version: 2
Section: other
Description-md5: 11
"""
TRANSLATION = """Package: liba-dev
Description-md5: 11
Description-de: Ein Titel: mit Doppelpunkt
 Eine Zeile
 und noch eine.
 .
 Liste:
  * eins
    weiter
  * zwei
 Ende.
 .

Package: liba-dev
Description-md5: 11
Description-de: Noch einmal
 Text.

Package: gone
Description-md5: 33
Description-de: Nur Titel
"""


def test_debian_descriptions(tmp_path: Path) -> None:
    write(tmp_path, {"Packages": PACKAGES, "Translation": TRANSLATION})
    first, second = debian_descriptions.read(tmp_path, "de")
    assert first == {
        "text": "Ein Titel: mit Doppelpunkt\n\nEine Zeile und noch eine.\n\nListe:\n * eins\n   weiter\n * zwei\nEnde.",
        "id": "11",
        "title": "Ein Titel: mit Doppelpunkt",
        "url": "https://github.com/x/a",
        "section": "libdevel",
        "package": "liba-dev",
        "origin": "a",
        "tags": ["role::app-data", "use::gameplaying", "x11::application"],
    }
    assert (second["package"], second["origin"], second["url"], second["text"]) == ("gone", "gone", None, "Nur Titel")


def test_debian_descriptions_pin_one_text_per_language() -> None:
    corpus = debian_descriptions.CORPUS
    for language in corpus.languages:
        (package,) = corpus.packages_for(language)
        assert package.replaced
        assert package.text_sha256 == debian_descriptions.TEXTS[language]


# ---- LibreOffice ---------------------------------------------------------------------------------------------------

PAGE = """<html><body><p id="par_id0">outside</p>
<div id="SearchFrame"><p id="par_id9">no</p></div>
<div id="DisplayArea" itemscope="true"><div><meta itemprop="keywords" content="x">
<h1 id="hd_id1" dir="auto"><a name="x"></a>Title &amp; more</h1>
<p id="par_id2">Press <span hidden="true" class="MAC"><span>Befehl</span></span><span>Strg</span>+C<br>now.</p>
<ul><li><p id="par_id3">Item <img src="a.png">one</p></li></ul>
<p>without id</p>
<p id="par_id2">again</p>
<p id="par_id4"> </p>
</div></div>
<p id="par_id5">after</p></body></html>"""


def test_libreoffice_help(tmp_path: Path) -> None:
    for language in ("en-US", "de"):
        write(tmp_path, {f"{libreoffice_help.FOLDER}/{language}/text/swriter/guide/x.html": PAGE})
    rows = list(libreoffice_help.read(tmp_path, "de"))
    assert [(row["id"], row["text"]) for row in rows] == [
        ("swriter/guide/x#hd_id1", "Title & more"),
        ("swriter/guide/x#par_id2", "Press Strg+C now."),
        ("swriter/guide/x#par_id3", "Item one"),
    ]
    assert {(row["section"], row["title"]) for row in rows} == {("swriter", "Title & more")}
    assert [row["id"] for row in libreoffice_help.read(tmp_path, "en")] == [row["id"] for row in rows]


# ---- captions ------------------------------------------------------------------------------------------------------


def test_emoji_names(tmp_path: Path) -> None:
    data = [
        {
            "label": "nerd face",
            "hexcode": "1F913",
            "tags": ["geek"],
            "emoji": "🤓",
            "group": 0,
            "subgroup": 8,
            "skins": [{}],
        },
        {"label": "regional indicator A", "hexcode": "1F1E6", "emoji": "🇦"},
        {"label": "", "hexcode": "0", "emoji": "x"},
    ]
    groups = {"groups": {"0": "smileys"}, "subgroups": {"8": "glasses"}}
    write(tmp_path, {"package/de/data.json": json.dumps(data), "package/meta/groups.json": json.dumps(groups)})
    face, letter = captions.read_emoji(tmp_path, "de")
    assert face == {
        "text": "nerd face",
        "id": "1F913",
        "emoji": "🤓",
        "tags": ["geek"],
        "label": "smileys",
        "section": "glasses",
    }
    assert (letter["tags"], letter["label"], letter["section"]) == (None, None, None)


SVG = """<?xml version="1.0"?><svg xmlns:dc="x"><title>no</title><metadata><rdf:RDF><cc:Work rdf:about="">
<dc:title>Part of the Flat Icon Collection &amp; more</dc:title><dc:description/>
<dc:subject><rdf:Bag><rdf:li>moon</rdf:li><rdf:li>hash</rdf:li><rdf:li></rdf:li></rdf:Bag></dc:subject>
<dc:publisher><cc:Agent><dc:title>Library</dc:title></cc:Agent></dc:publisher>
<dc:creator><cc:Agent><dc:title>Dan</dc:title></cc:Agent></dc:creator></cc:Work></rdf:RDF></metadata></svg>"""


def test_openclipart(tmp_path: Path) -> None:
    files = {"science/astronomy/full_moon_01.svg": SVG, "plain-thing_.svg": b"<svg>\xff</svg>", "a/02.svg": "<svg/>"}
    write(tmp_path, {f"{captions.CLIPART}/{name}": content for name, content in files.items()})
    number, plain, moon = captions.read_clipart(tmp_path, "en")
    assert moon == {
        "text": "full moon, moon, hash",
        "id": "science/astronomy/full_moon_01",
        "title": "Part of the Flat Icon Collection & more",
        "description": None,
        "tags": ["moon", "hash"],
        "author": "Dan",
        "section": "science",
        "folder": "science/astronomy",
    }
    assert (plain["text"], plain["tags"], plain["section"], plain["author"]) == ("plain thing", None, None, None)
    assert number["text"] == "a/02"


def test_tuxpaint(tmp_path: Path) -> None:
    files = {
        "animals/mammals/zebu.txt": "A zebu.\nde.utf8=Ein Zebu.\nfr.utf8=Un zébu.\nde.utf8=Zweites\n",
        "town/x.txt": "A town.\nde.utf8= \n",
    }
    write(tmp_path, {f"{captions.STAMPS}/{name}": content for name, content in files.items()})
    assert [row["text"] for row in captions.read_stamps(tmp_path, "en")] == ["A zebu.", "A town."]
    assert list(captions.read_stamps(tmp_path, "de")) == [
        {"text": "Ein Zebu.", "id": "animals/mammals/zebu", "section": "animals", "folder": "animals/mammals"}
    ]


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_emoji_pictures(tmp_path: Path) -> None:
    tags = ["geek", "smart", "glasses", "nerd face"]
    data = [
        {"label": "nerd face", "hexcode": "1F913", "tags": tags, "emoji": "🤓", "group": 0, "subgroup": 8},
        {"label": "heart", "hexcode": "2764", "emoji": "x", "group": 0, "subgroup": 8},
    ]
    groups = {"groups": {"0": "smileys"}, "subgroups": {"8": "glasses"}}
    drawn = {f"package/img/{v}/64/1f913.png": v for v in ("google", "twitter", "apple")}
    files = {
        "package/en/data.json": json.dumps(data),
        "package/meta/groups.json": json.dumps(groups),
        **drawn,
        "package/img/google/64/1f913-1f3fb.png": "a skin tone",
        "package/img/google/64/2764-fe0f.png": "heart",
        "package/img/google/sheets/64.png": "a sheet",
    }
    write(tmp_path, files)
    rows = list(pictures.read_emoji_pictures(tmp_path, "en"))
    assert [(row["id"], row["image"]) for row in rows] == [
        ("google/1f913", b"google"),
        ("google/2764", b"heart"),
        ("twitter/1f913", b"twitter"),
    ]
    face, heart, _ = rows
    name, *words = face["text"].split(", ")
    assert (name, face["title"], heart["text"]) == ("nerd face", "nerd face", "heart")
    assert len(words) == 2
    assert set(words) < {"geek", "smart", "glasses"}
    assert (face["vendor"], face["label"], face["section"], face["emoji"]) == ("google", "smileys", "glasses", "🤓")
    assert rows == list(pictures.read_emoji_pictures(tmp_path, "en"))


def test_only_the_vendors_own_pictures_are_taken_out() -> None:
    for package in pictures.EMOJI.packages:
        for pattern in package.files:
            assert "sheet" not in pattern
            assert pattern.endswith(".json") or pattern == f"package/img/{package.name.split('-')[-1]}/64/*.png"


def test_clip_art_and_stamps_with_pictures(tmp_path: Path) -> None:
    stars = SVG.replace("Dan", "codifiedivining")
    svg = {"science/full_moon_01.svg": SVG, "shapes/stars/one.svg": stars, "without.svg": SVG}
    write(tmp_path, {f"{captions.CLIPART}/{name}": content for name, content in svg.items()})
    for name in ("science/full_moon_01", "shapes/stars/one"):
        write(tmp_path, {f"{pictures.CLIPART_PNG}/{name}.png": name})
    (moon,) = pictures.read_clipart_pictures(tmp_path, "en")
    assert (moon["text"], moon["image"]) == ("full moon, moon, hash", b"science/full_moon_01")
    write(tmp_path, {f"{captions.STAMPS}/{name}": name for name in ("a/x.txt", "a/x.png", "a/y.txt", "a/z.png")})
    (stamp,) = pictures.read_stamp_pictures(tmp_path, "en")
    assert (stamp["id"], stamp["text"], stamp["image"]) == ("a/x", "a/x.txt", b"a/x.png")
