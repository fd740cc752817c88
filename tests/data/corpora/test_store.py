"""From a registry to rows in the cache: once, whole, and the same every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from archives import Clients, deb, tar

from warmstart.data.corpora import store
from warmstart.data.corpora.corpus import Corpus, Package, Row
from warmstart.data.corpora.registry import CORPORA
from warmstart.data.media import read_media
from warmstart.errors import DataError


def read(folder: Path, language: str) -> Iterator[Row]:
    for line in (folder / "package" / f"{language}.txt").read_text("utf-8").split("\n"):
        genre, _, text = line.partition(":")
        yield {"text": text, "id": str(len(text)), "genre": genre, "year": None}


ARCHIVE = tar(
    {"package/en.txt": "a:first\nb:the second\na: ", "package/de.txt": "a:Erster\x85\u2028", "package/x": "no"}
)
PACKAGE = Package("npm", "toy", "1.0.0", ("package/??.txt",), hashlib.sha256(ARCHIVE).hexdigest())
TOY = Corpus("toy", "Toy", "CC0", 0.1, 2, read, (PACKAGE,), ("genre", "year"), ("en", "de"))


@pytest.fixture(autouse=True)
def toy(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    clients.put("toy@1.0.0", "toy-1.0.0.tgz", ARCHIVE)
    monkeypatch.setitem(CORPORA, "toy", TOY)
    return TOY


def test_rows_with_all_their_columns() -> None:
    assert list(store.rows("toy")) == [
        {"text": "first", "source": "toy", "id": "5", "language": "en", "genre": "a"},
        {"text": "the second", "source": "toy", "id": "10", "language": "en", "genre": "b"},
    ]  # a row without text is none, and neither is a column without a value
    assert [row["text"] for row in store.rows("toy", "de")] == ["Erster\x85\u2028"]  # odd ends of lines stay inside


def test_pictures_and_sounds_lie_in_a_file_of_their_own(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    contents = [b"first picture", b"", b"the other"]

    def reader(folder: Path, language: str) -> Iterator[Row]:
        for number, content in enumerate(contents):
            yield {"text": f"row {number}", "id": str(number), "image": content or None, "audio": content[:5] or None}

    monkeypatch.setitem(CORPORA, "toy", replace(TOY, read=reader, version=7))
    rows = list(store.rows("toy"))
    assert [read_media(row["image"]) for row in rows if "image" in row] == [b"first picture", b"the other"]
    assert [read_media(row["audio"]) for row in rows if "audio" in row] == [b"first", b"the o"]
    assert "image" not in rows[1]
    before = store.fetch("toy").digest
    contents[2] = b"the OTHER"  # the same size at the same place
    monkeypatch.setitem(CORPORA, "toy", replace(TOY, read=reader, version=8))
    assert store.fetch("toy").digest != before
    (cache / "rows").rename(cache / "moved")
    with pytest.raises(DataError, match="cannot be read"):
        read_media(rows[0]["image"])


def test_facts_and_digest() -> None:
    facts = store.fetch("toy")
    assert (facts.corpus, facts.language, facts.rows, facts.text_bytes) == ("toy", "en", 2, 15)
    assert facts.packages == [{"registry": "npm", "name": "toy", "version": "1.0.0", "sha256": PACKAGE.sha256}]
    assert store.fetch("toy") == facts
    assert store.fetch("toy", "de").digest != facts.digest


def test_offline_after_the_first_fetch(clients: Clients, cache: Path) -> None:
    assert not store.is_here("toy")
    said: list[str] = []
    first = list(store.rows("toy", notify=said.append))
    assert said == ["fetching toy 1.0.0 (npm)", "reading toy"]
    assert store.is_here("toy")
    clients.offline = True
    assert list(store.rows("toy", notify=said.append)) == first
    assert list(store.rows("toy", "de"))  # another language of the same archive
    assert len(clients.calls) == 1
    assert not list(cache.rglob(".tmp-*"))


def test_a_reader_that_changed_reads_again_without_fetching(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.fetch("toy")
    monkeypatch.setitem(CORPORA, "toy", replace(TOY, version=2, read=lambda f, _: iter([{"text": "new", "id": "0"}])))
    assert store.fetch("toy").digest != before.digest
    assert len(clients.calls) == 1


def test_a_broken_cache_entry_is_made_again(cache: Path) -> None:
    before = store.fetch("toy")
    path = next(cache.rglob(store.ROWS))
    path.write_bytes(path.read_bytes()[:-2])
    said: list[str] = []
    assert store.fetch("toy", notify=said.append) == before
    assert "is broken" in said[0]


def test_a_wrong_archive_leaves_no_rows(clients: Clients, cache: Path) -> None:
    clients.put("toy@1.0.0", "toy-1.0.0.tgz", tar({"package/en.txt": "a:evil"}))
    with pytest.raises(DataError, match="expected " + str(PACKAGE.sha256)):
        list(store.rows("toy"))
    assert not store.is_here("toy")
    assert not [p for p in cache.rglob("*") if p.is_file()]


def broken(folder: Path, language: str) -> Iterator[Row]:
    yield {"text": "first", "id": "0"}
    raise KeyError("column")


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (broken, "corpus 'toy' cannot be read: KeyError: 'column'; is it a newer version?"),
        (lambda folder, _: iter([]), "corpus 'toy' (en): no rows"),
    ],
)
def test_a_reader_that_fails_leaves_nothing(cache, monkeypatch, reader, message) -> None:
    monkeypatch.setitem(CORPORA, "toy", replace(TOY, read=reader))
    with pytest.raises(DataError) as caught:
        store.fetch("toy")
    assert message in str(caught.value)
    assert not [p for p in (cache / "rows").rglob("*") if p.is_file()]


def test_unknown_names() -> None:
    with pytest.raises(DataError, match=r"no corpus 'brwn' \(did you mean 'brown'\?\); corpora: anarchism, "):
        store.fetch("brwn")
    with pytest.raises(DataError, match="'toy' has no language 'xx'; languages: en, de"):
        store.fetch("toy", "xx")


def test_a_newer_version_is_taken_with_a_warning(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("debian", "toy", "1-1", ("package/en.txt",), "0" * 64, replaced=True, text_sha256="1" * 64)
    monkeypatch.setitem(CORPORA, "toy", replace(TOY, packages=(package,)))
    clients.put("toy", "toy_1-2_all.deb", deb({"package/en.txt": "a:newer"}))
    said: list[str] = []
    facts = store.fetch("toy", notify=said.append)
    assert facts.packages[0]["version"] == "1-2"
    assert facts.warnings == [line.removeprefix("warning: ") for line in said if line.startswith("warning")]
    assert "toy 1-2 has another text than the pinned 1-1" in facts.warnings[0]
    assert [row["text"] for row in store.rows("toy")] == ["newer"]


def test_a_newer_version_with_the_same_text_is_no_news(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    text = hashlib.sha256(b"package/en.txt\x007\x00a:newer").hexdigest()
    package = Package("debian", "toy", "1-1", ("package/en.txt",), "0" * 64, replaced=True, text_sha256=text)
    monkeypatch.setitem(CORPORA, "toy", replace(TOY, packages=(package,)))
    clients.put("toy", "toy_1-2_all.deb", deb({"package/en.txt": "a:newer"}))
    assert store.fetch("toy").warnings == []


def test_rows_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading holds one row, not the corpus."""
    made = ({"text": "x" * 100_000, "id": str(n)} for n in range(300))
    monkeypatch.setitem(CORPORA, "toy", replace(TOY, read=lambda folder, language: made))
    store.fetch("toy")
    import tracemalloc

    tracemalloc.start()
    assert sum(1 for _ in store.rows("toy")) == 300
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()


def test_a_mix_of_corpora(monkeypatch: pytest.MonkeyPatch, clients: Clients) -> None:
    long = "A paragraph that is long enough to stay."
    content = json.dumps({})
    other = tar({"package/en.txt": f"a:{long}", "x": content})
    clients.put("other@1.0.0", "other-1.0.0.tgz", other)
    package = replace(PACKAGE, name="other", sha256=hashlib.sha256(other).hexdigest())
    monkeypatch.setitem(CORPORA, "other", replace(TOY, name="other", packages=(package,)))
    monkeypatch.setitem(
        CORPORA, "toy", replace(TOY, read=lambda f, _: iter([{"text": f"{long}\n\nshort\n\n{long} 2", "id": "0"}]))
    )
    mix = replace(TOY, name="mix", read=None, packages=(), parts=(("toy", {}), ("other", {"genre": "b"})))
    monkeypatch.setitem(CORPORA, "mix", mix)
    found = list(store.rows("mix"))
    assert [(row["source"], row["id"], row["text"]) for row in found] == [("toy", "toy/0", f"{long}\n\n{long} 2")]
    monkeypatch.setitem(CORPORA, "mix2", replace(mix, name="mix2", parts=(("other", {"genre": "a"}), ("toy", {}))))
    assert [(row["source"], row["text"]) for row in store.rows("mix2")] == [("other", long), ("toy", f"{long} 2")]
    assert store.fetch("mix2").digest != store.fetch("mix").digest


def test_packages_with_the_same_paths_have_folders_of_their_own(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = []
    for version in ("1.0.0", "2.0.0"):
        archive = tar({"package/en.txt": f"a:text of {version}"})
        clients.put(f"toy@{version}", f"toy-{version}.tgz", archive)
        digest = hashlib.sha256(archive).hexdigest()
        packages.append(Package("npm", "toy", version, ("package/en.txt",), digest, into=f"v{version}"))

    def both(folder: Path, language: str) -> Iterator[Row]:
        for place in ("v1.0.0", "v2.0.0"):
            yield from read(folder / place, language)

    monkeypatch.setitem(CORPORA, "toy", replace(TOY, read=both, packages=tuple(packages), version=3))
    assert [row["text"] for row in store.rows("toy")] == ["text of 1.0.0", "text of 2.0.0"]


def test_a_package_without_a_folder_has_the_key_that_it_always_had() -> None:
    """Rows that are in somebody's cache stay good."""
    known = {key: value for key, value in asdict(PACKAGE).items() if key != "into"}
    assert store._key(TOY, "en") == store.digest(store.FORMAT, "toy", 1, "en", [known], [])
