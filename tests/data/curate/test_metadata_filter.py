"""The filter on columns: what stays, which entries it names, where the entries come from."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from warmstart.data.curate.metadata_filter import MetadataFilter
from warmstart.data.steps import Columns, joined
from warmstart.errors import DataError

TEXTS = ["a cat, a dog", "Cat", "hot dog!", "nothing here", "cat cat", "a hot day"]
ENTRIES = ["dog", "cat", "hot dog", "cow"]


def rows(texts: list[str]) -> Columns:
    count = len(texts)
    return {"text": texts, "source": ["s"] * count, "id": list(map(str, range(count))), "row": list(range(count))}


def filtered(step: MetadataFilter, texts: list[str], batch: int = 100) -> Columns:
    batches = [
        {name: values[start : start + batch] for name, values in rows(texts).items()}
        for start in range(0, len(texts), batch)
    ]
    fitted = step.fit(step.measure(columns) for columns in batches)
    return joined([step.apply(columns, fitted) for columns in batches])


def test_keeps_rows_that_hold_an_entry_and_names_the_entries() -> None:
    found = filtered(MetadataFilter(metadata=ENTRIES), TEXTS)
    assert found["id"] == ["0", "2", "4"]
    assert found["entries"] == [["dog", "cat"], ["dog", "hot dog"], ["cat"]]  # in the metadata's order, each once
    assert found["text"] == [TEXTS[0], TEXTS[2], TEXTS[4]]


def test_the_single_pass_gives_the_same() -> None:
    step = MetadataFilter(metadata=ENTRIES)
    stream = step.stream()
    assert stream is not None
    assert stream(rows(TEXTS)) == filtered(step, TEXTS, batch=2)
    assert MetadataFilter(unigrams=3).stream() is None  # must see all rows first


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "a b", "c d,"]), min_size=1, max_size=20), st.integers(1, 7))
def test_entries_of_the_rows_do_not_depend_on_batches(texts: list[str], batch: int) -> None:
    step = MetadataFilter(metadata=["a"], unigrams=2, bigrams=2, min_count=1)
    assert filtered(step, texts, batch) == filtered(step, texts)


def test_takes_words_and_pairs_of_the_rows() -> None:
    texts = ["New York"] * 3 + ["a day"] * 2 + ["a night", "rare thing"]
    step = MetadataFilter(metadata=["night"], unigrams=2, bigrams=1, min_count=2)
    entries = step.fit(iter([step.measure(rows(texts))])).entries
    assert entries == ["night", "New", "York", "New York"]
    shuffled = random.Random(1).sample(texts, len(texts))
    assert step.fit(step.measure(rows([text])) for text in shuffled).entries == entries
    short = step.model_copy(update={"budget": 2})
    assert short.fit(iter([short.measure(rows(texts))])).entries == ["night", "New"]


def test_takes_entries_from_a_file_or_from_another_source(tmp_path: Path) -> None:
    path = tmp_path / "entries.txt"
    path.write_text("\n".join(ENTRIES) + "\n")
    expected = filtered(MetadataFilter(metadata=ENTRIES), TEXTS)
    assert filtered(MetadataFilter(metadata=str(path)), TEXTS) == expected
    table = tmp_path / "dictionary.jsonl"
    table.write_text("".join(json.dumps({"text": "a gloss", "title": entry}) + "\n" for entry in ENTRIES))
    source = {"type": "files", "path": str(table), "columns": ["title"]}
    step = MetadataFilter.model_validate({"metadata": {"source": source, "column": "title"}})
    assert filtered(step, TEXTS) == expected
    wrong = MetadataFilter.model_validate({"metadata": {"source": source, "column": "titel"}})
    with pytest.raises(DataError, match=r"has no 'titel'.*did you mean 'title'"):
        wrong.stream()


def test_a_changed_file_changes_the_key(tmp_path: Path) -> None:
    path = tmp_path / "entries.txt"
    path.write_text("cat\n")
    step = MetadataFilter(metadata=str(path))
    before = step.key()
    assert step.key() == before
    path.write_text("dog\n")
    assert step.key() != before
    with pytest.raises(DataError, match="cannot be read"):
        MetadataFilter(metadata=str(tmp_path / "none.txt")).key()


@pytest.mark.parametrize("settings", [{}, {"metadata": []}])
def test_needs_entries_from_somewhere(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="needs 'metadata'"):
        MetadataFilter.model_validate(settings)


def test_rows_without_text_are_told() -> None:
    with pytest.raises(DataError, match="there is no column 'text'"):
        MetadataFilter(metadata=["a"]).measure({"id": ["1"]})
