"""From sources to curated and rewritten rows: the same rows in one pass and in many, by every engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from warmstart.data.curate import Curation
from warmstart.data.curated import Rows, curated, mark_of, rewritten
from warmstart.data.documents import all_documents, documents
from warmstart.data.engine import Engine
from warmstart.data.rewrite import Rewrite
from warmstart.data.rewrite.template import Template
from warmstart.data.steps import Columns, joined, kept
from warmstart.errors import DataError
from warmstart.recipe_data import Data

FIRST_OF_EQUALS = "exact-duplicates"
TEXTS = [f"text {number % 70} {'long ' * (number % 5)}" for number in range(100)]


class BelowMean(Curation):
    """Keeps texts that are not longer than the mean: needs to see everything first."""

    type: Literal["below-mean"] = "below-mean"
    fits: ClassVar[bool] = True

    def measure(self, columns: Columns) -> Columns:
        return {"length": [len(text) for text in columns["text"]]}

    def fit(self, measured: Iterator[Columns]) -> float:
        lengths = [length for columns in measured for length in columns["length"]]
        return sum(lengths) / len(lengths)

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        return kept(columns, [len(text) <= fitted for text in columns["text"]])


class Shout(Rewrite):
    """Upper case; cannot abide the number 13."""

    type: Literal["shout"] = "shout"

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        if any(" 13 " in text for text in columns["text"]):
            raise ValueError("thirteen")
        return {**columns, "text": [text.upper() for text in columns["text"]], "length": [1] * len(columns["text"])}


@pytest.fixture(autouse=True)
def _unregister() -> Iterator[None]:
    yield
    from warmstart.part import _parts

    _parts["curate"].pop("below-mean", None)
    _parts["rewrite"].pop("shout", None)


def corpora(folder: Path) -> list[dict[str, Any]]:
    """Two sources with different columns."""
    first, second = folder / "a.jsonl", folder / "b.jsonl"
    first.write_text("".join(json.dumps({"text": text, "url": f"u{n}"}) + "\n" for n, text in enumerate(TEXTS[:60])))
    second.write_text("".join(json.dumps({"text": text, "year": n}) + "\n" for n, text in enumerate(TEXTS[60:])))
    return [
        {"type": "files", "path": str(first), "columns": ["url"], "label": "a"},
        {"type": "files", "path": str(second), "columns": ["year"], "label": "b"},
    ]


def data_of(folder: Path, **settings: Any) -> Data:
    return Data.model_validate({"source": corpora(folder), "curate": [FIRST_OF_EQUALS, BelowMean()], **settings})


def digests(rows: Rows) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in rows.files]


def read(rows: Rows) -> Columns:
    return joined([columns for number in range(len(rows.files)) for columns in rows.batches(number)])


def test_rows_keep_their_columns_and_get_a_number_and_a_mark(tmp_path: Path) -> None:
    rows = read(curated(data_of(tmp_path), cache_dir=tmp_path / "cache"))
    assert rows["row"] == sorted(set(rows["row"]))
    assert [rows["url"][n] for n in range(3)] == ["u0", "u1", "u2"]
    assert all((url is None) == (source == "b") for url, source in zip(rows["url"], rows["source"], strict=True))
    assert all((year is None) == (source == "a") for year, source in zip(rows["year"], rows["source"], strict=True))
    assert rows["mark"] == [mark_of(text) for text in rows["text"]]


def test_counts_add_up(tmp_path: Path) -> None:
    found = curated(data_of(tmp_path), cache_dir=tmp_path / "cache")
    counts = found.counts
    assert counts["rows_read"] == counts["in_exact_duplicates"] == 100
    assert counts["out_exact_duplicates"] == counts["in_below_mean"] == len(set(TEXTS))
    assert counts["out_below_mean"] == len(read(found)["text"]) < counts["in_below_mean"]


@pytest.mark.parametrize(
    "steps", [[], [FIRST_OF_EQUALS], [FIRST_OF_EQUALS, BelowMean()], [BelowMean(), FIRST_OF_EQUALS]]
)
def test_the_passes_give_what_the_single_pass_gives(tmp_path: Path, steps: list[Any]) -> None:
    data = data_of(tmp_path, curate=steps)
    single = curated(data, cache_dir=tmp_path / "one")
    many = curated(data, cache_dir=tmp_path / "two", engine=Engine("local", 1, batch=7))
    assert digests(many) == digests(single)
    assert many.counts == single.counts


@pytest.mark.slow
@pytest.mark.parametrize("engine", [Engine(workers=2, batch=9), Engine("ray", batch=11)], ids=["processes", "ray"])
def test_every_engine_gives_the_same_bytes(tmp_path: Path, engine: Engine) -> None:
    data = data_of(tmp_path, rewrite=[{"type": "template", "template": "<{text}>", "context": "{url}", "missing": "?"}])
    here, there = tmp_path / "here", tmp_path / "there"
    assert digests(rewritten(data, cache_dir=there, engine=engine)) == digests(rewritten(data, cache_dir=here))
    assert digests(curated(data, cache_dir=there)) == digests(curated(data, cache_dir=here))
    counts = [rewritten(data, cache_dir=folder).counts for folder in (here, there)]
    assert counts[0] == counts[1]


@pytest.mark.slow
@pytest.mark.parametrize("engine", [Engine(workers=2), Engine("ray")], ids=["processes", "ray"])
def test_every_engine_names_the_row_that_fails(tmp_path: Path, engine: Engine) -> None:
    data = data_of(tmp_path, curate=[], rewrite=[{"type": "template", "template": "{url} {text}"}])
    with pytest.raises(DataError, match=r"source 'b', row .*b.jsonl:1: step 'template': no value in column 'url'"):
        rewritten(data, cache_dir=tmp_path / "cache", engine=engine)
    skipping = data.model_copy(update={"on_error": "skip"})
    found = rewritten(skipping, cache_dir=tmp_path / "cache", engine=engine)
    assert (found.counts["skipped_template"], found.counts["rows_skipped"]) == (40, 40)
    assert set(read(found)["source"]) == {"a"}


def test_a_failing_row_is_named_or_counted(tmp_path: Path) -> None:
    data = data_of(tmp_path, curate=[FIRST_OF_EQUALS], rewrite=[Shout()])
    with pytest.raises(DataError, match=r"a.jsonl:14: step 'shout': ValueError: thirteen"):
        rewritten(data, cache_dir=tmp_path / "cache")
    told: list[str] = []
    skipping = data.model_copy(update={"on_error": "skip"})
    rows = rewritten(skipping, cache_dir=tmp_path / "cache", notify=told.append)
    assert rows.counts["skipped_shout"] == rows.counts["rows_skipped"] == 1
    assert any("thirteen" in line for line in told)


def test_rewriting_moves_no_document_to_the_other_side(tmp_path: Path) -> None:
    plain = data_of(tmp_path, curate=[], split={"validation": 0.3})
    loud = plain.model_copy(update={"rewrite": [Template(template="{text}!")]})
    before = [(d.text, d.held_out) for d in all_documents(plain, cache_dir=tmp_path / "c")]
    after = [(d.text.removesuffix("!"), d.held_out) for d in all_documents(loud, cache_dir=tmp_path / "c")]
    assert after == before
    assert list(documents(loud, cache_dir=tmp_path / "c")) == list(documents(plain, cache_dir=tmp_path / "c"))


def test_parts_of_the_training_side_share_no_document(tmp_path: Path) -> None:
    def texts(first: float, last: float) -> tuple[set[str], set[str]]:
        data = data_of(tmp_path, curate=[FIRST_OF_EQUALS], split={"validation": 0.2, "train": [first, last]})
        found = list(all_documents(data, cache_dir=tmp_path / "c"))
        return {d.text for d in found if not d.held_out}, {d.text for d in found if d.held_out}

    (whole, held_out), (first, same), (second, also) = texts(0, 1), texts(0, 0.6), texts(0.6, 1)
    assert first | second == whole
    assert not first & second
    assert first
    assert second
    assert held_out == same == also
    assert 0.4 < len(first) / len(whole) < 0.8


def test_the_order_of_a_part_must_be_forwards(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train must go from a smaller to a larger number"):
        data_of(tmp_path, split={"train": [0.5, 0.5]})


def test_a_column_of_ours_in_a_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "mark": 3}\n')
    data = Data.model_validate({"source": {"type": "files", "path": str(path), "columns": ["mark"]}})
    with pytest.raises(DataError, match="'mark' is the name of a column that warmstart makes"):
        curated(data, cache_dir=tmp_path / "cache")


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    class Nothing(Curation):
        type: Literal["below-mean"] = "below-mean"

        def apply(self, columns: Columns, fitted: Any = None) -> Columns:
            return kept(columns, [False] * len(columns["text"]))

    from warmstart.part import _parts

    try:
        with pytest.raises(DataError, match="no document in a, b"):
            curated(data_of(tmp_path, curate=[Nothing()]), cache_dir=tmp_path / "cache")
    finally:
        _parts["curate"].pop("below-mean", None)


def test_a_step_can_be_for_some_rows_only(tmp_path: Path) -> None:
    whole = read(curated(data_of(tmp_path, curate=[]), cache_dir=tmp_path / "c"))
    mean = sum(len(t) for t, s in zip(whole["text"], whole["source"], strict=True) if s == "b") / 40
    expected = [t for t, s in zip(whole["text"], whole["source"], strict=True) if s == "a" or len(t) <= mean]
    steps = [BelowMean(only={"source": "b"}), Template(template="{year}", missing="none", only={"source": "b"})]
    for engine in (Engine(), Engine(batch=7)):
        data = data_of(tmp_path, curate=steps[:1])
        found = curated(data, cache_dir=tmp_path / f"{engine.batch}", engine=engine)
        assert read(found)["text"] == expected
        assert found.counts["in_below_mean"] == 100
    data = data_of(tmp_path, curate=[], rewrite=steps[1:])
    changed = read(rewritten(data, cache_dir=tmp_path / "c"))
    assert changed["text"][:60] == whole["text"][:60]
    assert changed["text"][60:] == [str(year) for year in whole["year"][60:]]
    assert changed["row"] == whole["row"]


def test_a_step_for_rows_between_others_keeps_their_places(tmp_path: Path) -> None:
    data = data_of(tmp_path, curate=[], rewrite=[Template(template="x", only={"url": ["u3", "u5"]})])
    changed = read(rewritten(data, cache_dir=tmp_path / "c"))
    assert [n for n, text in enumerate(changed["text"]) if text == "x"] == [3, 5]
    assert changed["row"] == list(range(100))
