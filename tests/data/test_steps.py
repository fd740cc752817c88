"""Chains of row steps: counts, whose fault a failure is, and names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.curate.exact_duplicates import ExactDuplicates
from warmstart.data.steps import Chain, Columns, chosen, column, joined, kept, size, step_names
from warmstart.errors import DataError, ModelError


def rows(texts: list[str]) -> Columns:
    count = len(texts)
    return {"text": texts, "source": ["web"] * count, "id": [f"p{n}" for n in range(count)], "row": list(range(count))}


def drop_short(columns: Columns) -> Columns:
    return kept(columns, [len(text) > 1 for text in columns["text"]])


def no_x(columns: Columns) -> Columns:
    for text in columns["text"]:
        if "x" in text:
            raise ValueError("an x")
        if "y" in text:
            raise DataError("a y is not allowed")
    return {**columns, "text": [text.upper() for text in columns["text"]]}


def test_counts_rows_in_and_out_of_each_step() -> None:
    outcome = Chain([("short", drop_short), ("upper", no_x)])(rows(["ab", "c", "de"]))
    assert outcome.columns["text"] == ["AB", "DE"]
    assert outcome.columns["id"] == ["p0", "p2"]
    assert outcome.counts == {"in_short": 3, "out_short": 2, "in_upper": 2, "out_upper": 2}


def test_a_failure_names_the_step_and_the_row() -> None:
    chain = Chain([("no_x", no_x)])
    with pytest.raises(DataError, match=r"source 'web', row p2: step 'no-x': ValueError: an x"):
        chain(rows(["a", "b", "x", "x2"]))
    with pytest.raises(DataError, match=r"source 'web', row p1: step 'no-x': a y is not allowed"):
        chain(rows(["a", "y", "x"]))


def test_skipping_loses_the_bad_rows_alone_and_counts_them() -> None:
    outcome = Chain([("no_x", no_x), ("short", drop_short)], skip=True)(rows(["aa", "x", "b", "y", "cc"]))
    assert outcome.columns["text"] == ["AA", "CC"]
    assert outcome.counts == {"in_no_x": 5, "out_no_x": 3, "skipped_no_x": 2, "in_short": 3, "out_short": 2}
    assert [text.split(":")[0] for text in outcome.skipped] == ["source 'web', row p1", "source 'web', row p3"]
    alone = Chain([("no_x", no_x)], skip=True)(rows(["x"]))
    assert size(alone.columns) == 0
    assert set(alone.columns) == {"text", "source", "id", "row"}


def test_what_is_no_rows_fault_is_not_skipped() -> None:
    def broken(columns: Columns) -> Columns:
        raise ModelError("no such model")

    with pytest.raises(ModelError, match="no such model"):
        Chain([("broken", broken)], skip=True)(rows(["a", "b"]))


def test_a_missing_column_says_what_there_is() -> None:
    with pytest.raises(DataError, match=r"no column 'txt' \(did you mean 'text'\?\); columns: text, source, id, row"):
        column(rows(["a"]), "txt")


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=5))
def test_joined_batches_keep_every_row(parts: list[list[int]]) -> None:
    batches: list[Columns] = [
        {"a": part} if number % 2 else {"a": part, "b": part} for number, part in enumerate(parts)
    ]
    whole = joined(batches)
    assert whole.get("a", []) == [value for part in parts for value in part]
    expected = [value if number % 2 == 0 else None for number, part in enumerate(parts) for value in part]
    assert whole.get("b", []) == (expected if parts else [])


def test_choosing_keeps_the_columns_side_by_side() -> None:
    assert chosen(rows(["a", "b", "c"]), [2, 0])["id"] == ["p2", "p0"]
    assert size({}) == 0


def test_the_second_of_a_name_gets_a_number() -> None:
    steps: list[Any] = [ExactDuplicates(), ExactDuplicates()]
    assert step_names(steps) == ["exact_duplicates", "exact_duplicates_2"]
