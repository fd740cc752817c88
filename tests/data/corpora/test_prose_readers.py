"""Readers of running text, on tiny files in the form of the real ones."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.corpora import anarchism, brown, mail, novels, sotu, sword, wiki_leads
from warmstart.data.corpora.markup import text_of_html
from warmstart.data.corpora.prose import distinct_paragraphs
from warmstart.data.corpora.r_data import lazy_load

Read = Callable[[Path, str], Iterator[dict[str, Any]]]


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


# ---- Brown ---------------------------------------------------------------------------------------------------------

CA01 = """

\tThe/at jury/nn said/vbd ``/`` no/at evidence/nn ''/'' (/( in/in 1/2/cd )/) ,/, then/rb left/vbd ./.


\tWhy/wrb ?/. ?/. He/pps 's/bez here/rb ;/. ;/.
``/`` Go/vb !/. ''/''
"""


def test_brown_is_words_without_tags_as_they_would_be_printed(tmp_path: Path) -> None:
    write(tmp_path, {"package/ca01": CA01, "package/cb02": "\tOne/cd", "package/cats.txt": "ca01 news\ncb02 lore\n"})
    rows = list(brown.read(tmp_path, "en"))
    assert [(row["id"], row["genre"], row["year"]) for row in rows] == [("ca01", "news", 1961), ("cb02", "lore", 1961)]
    first = 'The jury said "no evidence" (in 1/2), then left.'
    assert rows[0]["text"] == f'{first}\n\nWhy? He \'s here; "Go!"'
    assert rows[1]["text"] == "One"


def test_brown_tagged_keeps_words_and_tags_sentence_by_sentence(tmp_path: Path) -> None:
    files = {
        "package/ca01": CA01,
        "package/cb02": "\tBear's/nn$ n't/* --/-- Jury/nn-tl+bez-tl\n",
        "package/cats.txt": "ca01 news\ncb02 lore\n",
    }
    write(tmp_path, files)
    rows = list(brown.read_tagged(tmp_path, "en"))
    assert [row["id"] for row in rows] == ["ca01-0", "ca01-1", "ca01-2", "cb02-0"]
    assert rows[0]["text"] == 'The jury said "no evidence" (in 1/2), then left.'
    assert rows[0]["words"][:4] == ["The", "jury", "said", "``"]
    assert rows[0]["words"][9] == "1/2"
    assert rows[0]["tags"][9] == "cd"
    assert rows[3]["tags"] == ["nn$", "*", "--", "nn-tl+bez-tl"]
    assert rows[3]["simple_tags"] == ["nn", "*", "--", "nn"]
    assert all(len(row["words"]) == len(row["tags"]) == len(row["simple_tags"]) for row in rows)


def test_brown_never_opens_the_pickle(tmp_path: Path) -> None:
    patterns = brown.CORPUS.packages[0].files
    assert not any("pickle" in pattern or pattern.endswith("*") for pattern in patterns)


# ---- State of the Union, Wikipedia ---------------------------------------------------------------------------------


def test_sotu(tmp_path: Path) -> None:
    address = {"year": 1790, "name": "George Washington", "party": "none", "text": "Fellow citizens."}
    write(
        tmp_path,
        {"package/data/1790_gw_n.json": json.dumps(address), "package/data/1790_gw_n.txt": "Fellow citizens."},
    )
    assert list(sotu.read(tmp_path, "en")) == [
        {"text": "Fellow citizens.", "id": "1790_gw_n", "year": 1790, "author": "George Washington", "label": "none"}
    ]
    assert sotu.CORPUS.packages[0].files == ("package/data/[0-9]*.json",)  # every address is there twice


def test_wiki_leads(tmp_path: Path) -> None:
    def article(title: str, extract: str, topic: str = "Arts") -> dict[str, str]:
        return {"title": title, "extract": extract, "topic": topic, "description": ""}

    articles = [
        article("A", "A is a thing. The word may refer to more: this too."),
        article("B", "B is another.", "Uncategorized"),
        article("C", "C may refer to:"),
        article("D", "Sea snake may refer to either of two groups of snakes:Hydrophiini, and others."),
        article("E", " "),
    ]
    write(tmp_path, {f"{wiki_leads.DATA}/summaries_fr-fr.json": json.dumps({a["title"]: a for a in articles})})
    rows = list(wiki_leads.read(tmp_path, "fr"))
    assert [(row["id"], row["label"], row["url"]) for row in rows] == [
        ("A", "Arts", "fr.wikipedia.org"),
        ("B", None, "fr.wikipedia.org"),
    ]


# ---- Mail ----------------------------------------------------------------------------------------------------------

PLAIN = b"From: a@b\nSubject: win money\nDate: Thu, 22 Aug 2002 12:36:23 -0400\n"


def bodies(tmp_path: Path, *mails: bytes, group: str = "spam-1") -> list[dict[str, Any]]:
    write(tmp_path, {f"package/data/{group}/{n:05}.txt": content for n, content in enumerate(mails)})
    return list(mail.read(tmp_path, "en"))


def test_mail_bodies_without_headers(tmp_path: Path) -> None:
    rows = bodies(tmp_path, PLAIN + b"\nHello\n") + bodies(tmp_path, PLAIN + b"\nHello you\n", group="easy-ham-1")
    assert rows[0] == {"text": "Hello", "id": "spam-1/00000", "label": "spam", "section": "spam-1", "year": 2002}
    assert [row["label"] for row in rows[1:]] == ["ham", "spam"]
    assert "money" not in json.dumps(rows)


def test_mail_repeated_and_empty_bodies_are_left_out(tmp_path: Path) -> None:
    mails = (b"X: 1\n\nHello", b"X: 2\n\nHello\n", b"X: 3\n\n \n", b"X: 4\n\nBye")
    assert [row["text"] for row in bodies(tmp_path, *mails)] == ["Hello", "Bye"]


@pytest.mark.parametrize(
    ("charset", "content", "text"),
    [
        (b"utf-8", b"na\xefve", "naïve"),  # lies: it is Latin-1
        (b"us-ascii", "naïve".encode(), "naïve"),  # lies: it is UTF-8
        (b"no-such-thing", "naïve".encode(), "naïve"),
        (b"iso-8859-2", b"\xb1", "ą"),  # true
    ],
)
def test_mail_charsets_that_lie(tmp_path: Path, charset: bytes, content: bytes, text: str) -> None:
    head = b"Content-Type: text/plain; charset=" + charset + b"\n\n"
    assert [row["text"] for row in bodies(tmp_path, head + content)] == [text]


def test_mail_of_several_parts(tmp_path: Path) -> None:
    head = b'Content-Type: multipart/alternative; boundary="x"\n\n'
    html = b"--x\nContent-Type: text/html\n\n<html><style>p{}</style><p>Buy&nbsp;<b>now</b><br>please</html>\n"
    plain = b"--x\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\nplain =E9\n"
    assert [row["text"] for row in bodies(tmp_path, head + html + b"--x--")] == ["Buy now\nplease"]
    assert [row["text"] for row in bodies(tmp_path, head + plain + html + b"--x--")] == ["plain é"]


@pytest.mark.parametrize(
    ("date", "year"), [("Mon, 02 Sep 102 10:00:00 +0100", 2002), ("yesterday", None), ("1 Jan 2001 00:00", 2001)]
)
def test_mail_dates(tmp_path: Path, date: str, year: int | None) -> None:
    assert [row["year"] for row in bodies(tmp_path, f"Date: {date}\n\nHi".encode())] == [year]


# ---- HTML ----------------------------------------------------------------------------------------------------------


def test_html_as_paragraphs() -> None:
    source = "<head><title>T</title></head><h1>A &amp; B</h1><p>one\n two<p>three<script>no<b>no</script> four<ul><li>x"
    assert text_of_html(source) == "A & B\n\none two\n\nthree four\n\nx"


@given(st.text(alphabet="<>/!-pbrstyle \"'=&;a\n", max_size=60))
def test_broken_html_is_no_error(source: str) -> None:
    assert "\n\n\n" not in text_of_html(source)


def test_anarchism(tmp_path: Path) -> None:
    page = "<html><title>T | W</title><body><h1>F.3 <i>Why</i>?</h1><p>Because.</p></body></html>"
    write(tmp_path, {f"{anarchism.FOLDER}/{n}.html": page for n in ("secF3", "append1", "secHcon")})
    rows = list(anarchism.read(tmp_path, "en"))
    assert [(row["id"], row["section"]) for row in rows] == [("append1", "append"), ("secF3", "F"), ("secHcon", "H")]
    assert rows[0]["text"] == "F.3 Why?\n\nBecause."
    assert rows[0]["title"] == "F.3 Why?"


# ---- SWORD ---------------------------------------------------------------------------------------------------------

OSIS = (
    '<milestone type="x-importer" n="1"/><div canonical="true" osisID="Gen" sID="gen1" type="book"/>'
    ' <milestone n="Genesis" type="x-usfm-h"/> <title type="main">The First Book</title>'
    '<chapter n="1" osisID="Gen.1" sID="Gen.1"/><div sID="g3" type="x-p"/> In the <w lemma="strong:H1">beginning</w>'
    '<note type="annotateRef">a note</note> &amp; so.<div eID="g3" type="x-p"/><lb/>A line <chapter eID="Gen.1"/>'
    '<chapter n="2" osisID="Gen.2" sID="Gen.2"/>God<w>created</w>'
)


def module(folder: Path, blocks: list[str]) -> Path:
    packed, index = b"", b""
    for block in blocks:
        content = zlib.compress(block.encode())
        index += struct.pack("<III", len(packed), len(content), len(block.encode()))
        packed += content
    return write(folder, {"ot.bzs": index, "ot.bzz": packed})


def test_sword_chapters(tmp_path: Path) -> None:
    module(tmp_path / sword.FOLDER / "texts/x", [OSIS[:200], OSIS[200:]])
    rows = list(sword.reader("texts/x")(tmp_path, "en"))
    assert [(row["id"], row["section"], row["title"]) for row in rows] == [
        ("Gen.0", "Gen", "Genesis"),
        ("Gen.1", "Gen", "Genesis"),
        ("Gen.2", "Gen", "Genesis"),
    ]
    assert rows[0]["text"] == "The First Book"
    assert rows[1]["text"] == "In the beginning & so.\n\n\nA line".replace("\n\n\n", "\n\n")


def test_sword_books_are_named_by_the_first_name_they_have(tmp_path: Path) -> None:
    named = OSIS.replace('<milestone n="Genesis" type="x-usfm-h"/>', '<milestone n="Gen." type="x-usfm-toc1"/>')
    named = named.replace("<title", '<milestone n="" type="x-usfm-toc2"/><title')
    assert {row["title"] for row in sword.chapters(named)} == {"Gen."}
    unnamed = OSIS.replace('<milestone n="Genesis" type="x-usfm-h"/>', "")
    assert {row["title"] for row in sword.chapters(unnamed)} == {"Gen"}


def test_sword_blocks_that_are_not_there(tmp_path: Path) -> None:
    module(tmp_path, ["text"])
    (tmp_path / "ot.bzs").write_bytes(struct.pack("<III", 0, 10_000, 4))
    with pytest.raises(ValueError, match="not in the file"):
        sword.unpacked(tmp_path / "ot.bzs")
    (tmp_path / "ot.bzs").write_bytes(struct.pack("<III", 0, 4, 2**31))
    with pytest.raises(ValueError, match="too large"):
        sword.unpacked(tmp_path / "ot.bzs")


# ---- novels and plays ----------------------------------------------------------------------------------------------


def test_moby_dick_in_the_order_of_its_chapters(tmp_path: Path) -> None:
    chapters = {n: json.dumps({"chapter": n, "title": f"T{n}", "text": f"Text {n}"}) for n in ("1", "2", "10")}
    write(tmp_path, {f"package/data/chapter_{n}.json": text for n, text in chapters.items()})
    assert [row["id"] for row in novels.read_moby_dick(tmp_path, "en")] == ["chapter_1", "chapter_2", "chapter_10"]
    patterns = novels.MOBY_DICK.packages[0].files
    assert not any(name in pattern for name in ("data.txt", "contents", "file_list") for pattern in patterns)


def test_shakespeare_by_scene_without_the_folio(tmp_path: Path) -> None:
    speech = "A speech that is as long as a scene must be.\n" * 6
    text = f"HAMLET\n\n{speech}\nACT I.\n\nScene I. Elsinore.\n\n{speech}\nSCENE II. Again.\n{speech}"
    folder = novels.SHAKESPEARE
    write(tmp_path, {f"{folder}/hamlet_gut.txt": text.replace("\n", "\r\n"), f"{folder}/hamlet_gut_f.txt": text})
    rows = list(novels.read_shakespeare(tmp_path, "en"))
    assert [row["title"] for row in rows] == ["hamlet"] * 3
    assert [row["text"].split("\n\n")[0] for row in rows] == [
        "HAMLET",
        "ACT I.",
        "SCENE II. Again.\n" + speech.rstrip(),
    ]


def r_flags(kind: int, more: int = 0) -> bytes:
    return struct.pack(">i", kind | more)


def r_text(text: str) -> bytes:
    return r_flags(9) + struct.pack(">i", len(text.encode())) + text.encode()


def r_strings(*texts: str) -> bytes:
    return r_flags(16) + struct.pack(">i", len(texts)) + b"".join(map(r_text, texts))


def r_integers(*values: int) -> bytes:
    return r_flags(13) + struct.pack(f">{len(values) + 1}i", len(values), *values)


def r_list(names: list[str], values: list[bytes], name_symbol: bytes) -> bytes:
    body = r_flags(19, 0x200) + struct.pack(">i", len(values)) + b"".join(values)
    return body + r_flags(2, 0x400) + name_symbol + r_strings(*names) + r_flags(254)


def r_head(version: int = 3) -> bytes:
    head = b"X\n" + struct.pack(">iii", version, 0x040201, 0x030500)
    return head + (struct.pack(">i", 5) + b"UTF-8" if version == 3 else b"")


def r_database(folder: Path, novel_lines: dict[str, list[str]]) -> Path:
    packed, places = b"", []
    for lines in novel_lines.values():
        value = r_head() + r_strings(*lines)
        content = struct.pack(">I", len(value)) + zlib.compress(value)
        places.append(r_integers(len(packed), len(content)))
        packed += content
    symbol, again = r_flags(1) + r_text("names"), r_flags(255 | 1 << 8)
    inner = r_list(list(novel_lines), places, symbol)  # the symbol is written once and referred to afterwards
    outer = r_list(["variables", "compressed"], [inner, r_integers(1)], again)
    base = folder / novels.AUSTEN
    write(folder, {f"{novels.AUSTEN}.rdx": gzip.compress(r_head() + outer), f"{novels.AUSTEN}.rdb": packed})
    return base


def test_vectors_of_r(tmp_path: Path) -> None:
    lines = {"emma": ["EMMA", "", "é"], "persuasion": ["x"]}
    base = r_database(tmp_path, lines)
    assert lazy_load(base) == lines
    whole = gzip.decompress(base.with_suffix(".rdx").read_bytes())
    for content, message in (
        (whole[:-30], "ends too early"),
        (b"A\n" + whole[2:], "not R's XDR"),
        (whole.replace(r_flags(13), r_flags(14)), "type 14 are not known"),
    ):
        base.with_suffix(".rdx").write_bytes(gzip.compress(content))
        with pytest.raises(ValueError, match=message):
            lazy_load(base)


def test_austen_by_chapter(tmp_path: Path) -> None:
    lines = ["EMMA", "", "CHAPTER I", "", "Emma Woodhouse, handsome,", "clever.", "", "Chapter 2", "She had."]
    r_database(tmp_path, {"emma": lines})
    rows = list(novels.read_austen(tmp_path, "en"))
    assert [(row["id"], row["title"]) for row in rows] == [(f"emma/{n}", "Emma") for n in range(3)]
    assert rows[1]["text"] == "CHAPTER I\n\nEmma Woodhouse, handsome, clever."


# ---- the mix -------------------------------------------------------------------------------------------------------


def test_short_and_repeated_paragraphs_go() -> None:
    a, b, c = (letter * 30 for letter in "abc")
    rows = [
        {"text": f"{a}\n\nshort\n \n {b} ", "source": "one", "id": "1", "genre": "x"},
        {"text": f"{a}\n\n{'d' * 29}", "source": "two", "id": "2"},
        {"text": f"{b}\n{b}\n\n{c}\n\n{c}", "source": "two", "id": "3"},
    ]
    assert list(distinct_paragraphs(rows)) == [
        {"text": f"{a}\n\n{b}", "source": "one", "id": "one/1", "genre": "x"},
        {"text": f"{b}\n{b}\n\n{c}", "source": "two", "id": "two/3"},
    ]


@given(st.lists(st.text(alphabet="ab \n", max_size=120), max_size=8))
def test_no_paragraph_stands_twice(texts: list[str]) -> None:
    rows = [{"text": text, "source": "s", "id": str(n)} for n, text in enumerate(texts)]
    kept = [p for row in distinct_paragraphs(rows) for p in row["text"].split("\n\n")]
    assert len(kept) == len(set(kept))
    assert all(len(p) >= 30 and p in "\n".join(texts) for p in kept)
