"""The source `corpus`: a corpus by name in a recipe, and what the command line shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from archives import Clients, tar
from pydantic import TypeAdapter, ValidationError
from typer.testing import CliRunner

from warmstart.cli import app
from warmstart.data.corpora import store
from warmstart.data.corpora.corpus import Corpus, Package, Row
from warmstart.data.corpora.registry import CORPORA
from warmstart.data.sources import Source
from warmstart.data.sources.corpus import NamedCorpus
from warmstart.errors import DataError
from warmstart.recipe_data import Data

ROWS = [
    {"text": "one", "id": "0", "genre": "news", "year": 1961, "tags": ["a", "b"]},
    {"text": "two", "id": "1", "genre": "lore", "year": 1961, "tags": ["b"]},
    {"text": "three", "id": "2", "genre": "news", "year": 1970},
]
ARCHIVE = tar({"package/rows.json": json.dumps(ROWS)})


def read(folder: Path, language: str) -> Iterator[Row]:
    yield from json.loads((folder / "package/rows.json").read_bytes())


TOY = Corpus(
    name="toy",
    title="Toy texts",
    licence="CC0 [with brackets]",
    megabytes=1.25,
    rows=3,
    read=read,
    packages=(Package("npm", "toy", "1.0.0", ("package/rows.json",), hashlib.sha256(ARCHIVE).hexdigest()),),
    columns=("genre", "year", "tags"),
    languages=("en", "de"),
    use="for tests",
)


@pytest.fixture(autouse=True)
def toy(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    clients.put("toy@1.0.0", "toy-1.0.0.tgz", ARCHIVE)
    monkeypatch.setitem(CORPORA, "toy", TOY)


def source(**settings: Any) -> NamedCorpus:
    return NamedCorpus.model_validate({"name": "toy", **settings})


def texts(**settings: Any) -> list[str]:
    return [row["text"] for row in source(**settings).rows()]


def test_rows_keep_their_metadata(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(source().rows())
    assert rows[0] == {**ROWS[0], "source": "toy", "language": "en"}
    assert capsys.readouterr().err == "fetching toy 1.0.0 (npm)\nreading toy\n"
    assert [row["source"] for row in source(label="mine").rows()] == ["mine"] * 3
    assert [row["language"] for row in source(language="de").rows()] == ["de"] * 3


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"genre": "news"}, ["one", "three"]),
        ({"genre": ["news", "lore"], "year": 1961}, ["one", "two"]),
        ({"year": [1970, 1971]}, ["three"]),
        ({"tags": "a"}, ["one"]),  # of a list, one of its values
        ({"id": "1", "source": "toy", "language": "en"}, ["two"]),
    ],
)
def test_where(where: dict[str, Any], expected: list[str]) -> None:
    assert texts(where=where) == expected


def test_where_nothing_fits() -> None:
    with pytest.raises(
        DataError, match=r"corpus 'toy': no row fits 'where'; genre: 'nwes' asked \(did you mean 'news'"
    ):
        texts(where={"genre": "nwes"})


def test_a_name_in_a_recipe_is_checked_before_anything_is_fetched(clients: Clients) -> None:
    for settings, message in (
        ({"name": "tyo"}, r"there is no corpus 'tyo' \(did you mean 'toy'\?\)"),
        ({"language": "xx"}, "'toy' has no language 'xx'; languages: en, de"),
        (
            {"where": {"gerne": "x"}},
            r"'toy' has no column 'gerne' \(did you mean 'genre'\?\); columns: genre, year, tags",
        ),
        ({"where": {"genre": []}}, "at least 1 item"),
    ):
        with pytest.raises(ValidationError, match=message):
            source(**settings)
    assert clients.calls == []


def test_in_a_recipe() -> None:
    data = Data.model_validate(
        {"source": [{"type": "corpus", "name": "toy", "where": {"genre": "news"}}, "python-stdlib"]}
    )
    assert [part.label for part in data.sources] == ["toy", None]
    again = TypeAdapter(Source).validate_python(data.sources[0].model_dump(mode="json", by_alias=True))
    assert again == data.sources[0]
    assert data.sources[0].name == "corpus"


def test_the_fingerprint_follows_the_rows(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    first = source().fingerprint()
    assert source().fingerprint() == first
    others = {source(where={"genre": "news"}).fingerprint(), source(where={"genre": ["news"]}).fingerprint()}
    others.add(source(language="de").fingerprint())
    assert first not in others
    clients.offline = True
    assert source().fingerprint() == first
    fewer = replace(TOY, version=2, read=lambda folder, language: iter([{"text": "new", "id": "0"}]))
    monkeypatch.setitem(CORPORA, "toy", fewer)
    assert source().fingerprint() != first


def test_a_mix_keeps_the_names_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    long = [{"text": letter * 40, "id": letter} for letter in "ab"]
    monkeypatch.setitem(CORPORA, "toy", replace(TOY, read=lambda folder, language: iter([dict(row) for row in long])))
    monkeypatch.setitem(CORPORA, "mix", replace(TOY, name="mix", read=None, packages=(), parts=(("toy", {}),)))
    assert [row["source"] for row in source(name="mix").rows()] == ["toy", "toy"]
    assert [row["source"] for row in source(name="mix", label="other").rows()] == ["other", "other"]
    assert len(texts(name="mix", where={"source": "toy"})) == 2


# ---- the registry --------------------------------------------------------------------------------------------------


def test_the_registry_is_consistent() -> None:
    import re

    names = set(CORPORA) - {"toy"}
    assert {"prose", "brown", "licences", "kernel-docs", "debian-descriptions"} <= names
    for name in names:
        corpus = CORPORA[name]
        assert corpus.name == name
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert corpus.title
        assert corpus.licence
        assert corpus.megabytes > 0
        assert corpus.rows > 0
        assert len(set(corpus.languages)) == len(corpus.languages) > 0
        assert not {"text", "source", "id", "row", "mark", "context", "score"} & set(corpus.columns)
        assert (corpus.read is None) == bool(corpus.parts) == (not corpus.packages)
        assert all(part in names and not CORPORA[part].parts for part, _ in corpus.parts)
        for language in corpus.languages:
            for package in corpus.packages_for(language):
                assert package.registry == "debian-index" or re.fullmatch(r"[0-9a-f]{64}", package.sha256 or "")
                assert not package.replaced or re.fullmatch(r"[0-9a-f]{64}", package.text_sha256 or "")
        assert corpus.parts or corpus.packages_for(corpus.languages[0])


# ---- the command line ----------------------------------------------------------------------------------------------


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_list(clients: Clients) -> None:
    assert "fetched" not in invoke("data", "list").stdout
    store.fetch("toy")
    shown = invoke("data", "list")
    assert shown.exit_code == 0
    line = next(line for line in shown.stdout.splitlines() if line.strip().startswith("toy"))
    assert all(word in line for word in ("1.2", "CC0 [with brackets]", "genre, year, tags", "fetched"))
    assert all(name in shown.stdout for name in CORPORA)


def test_get(clients: Clients) -> None:
    shown = invoke("data", "get", "toy", "toy", "--language", "de")
    assert shown.exit_code == 0
    assert shown.stdout.count("Toy texts (de)") == 2
    for line in (
        f"  package   toy 1.0.0 (npm), sha256 {TOY.packages[0].sha256}",
        "  licence   CC0 [with brackets]",
        "  note      for tests",
        f"  rows      3, 0.00 MB of text, digest {store.fetch('toy', 'de').digest}",
        "  columns   source, id, language, genre, year, tags",
        "  first     one",
    ):
        assert line in shown.stdout.splitlines()
    assert len(clients.calls) == 1


@pytest.mark.parametrize("arguments", [("nope",), ("toy", "nope"), ("toy", "--language", "xx")])
def test_get_what_is_not_there(clients: Clients, arguments: tuple[str, ...]) -> None:
    shown = invoke("data", "get", *arguments)
    assert shown.exit_code == 2
    assert "error: " in shown.output
    assert clients.calls == []


def test_get_offline(clients: Clients) -> None:
    clients.offline = True
    shown = invoke("data", "get", "toy")
    assert shown.exit_code == 2
    assert "is this machine online?" in shown.output


def test_the_table_in_the_docs_follows_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    from warmstart.data.corpora.overview import markdown

    monkeypatch.delitem(CORPORA, "toy")
    docs = Path(__file__).resolve().parents[3] / "docs" / "corpora.md"
    assert markdown() in docs.read_text(encoding="utf-8")
