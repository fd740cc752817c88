"""Rows on disk between the steps."""

from __future__ import annotations

import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.data import rows as module
from warmstart.data.rows import RowsFile, from_bytes, read_rows, to_bytes, to_columns, to_table
from warmstart.data.steps import Columns, joined

text = st.text(st.characters(codec="utf-8"), max_size=8)
value = st.one_of(
    st.none(), text, st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.booleans(), st.lists(text, max_size=2)
)


@st.composite
def batches(draw: Any) -> list[Columns]:
    """Rows with any further columns: another set of columns, and other kinds of values, in every batch."""
    result, number = [], 0
    for count in draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)):
        columns: Columns = {
            "text": draw(st.lists(text, min_size=count, max_size=count)),
            "source": ["s"] * count,
            "id": [f"{number + n}" for n in range(count)],
            "row": list(range(number, number + count)),
        }
        for name in draw(st.lists(st.sampled_from(["url", "year", "tags"]), unique=True)):
            columns[name] = draw(st.lists(value, min_size=count, max_size=count))
        result.append(columns)
        number += count
    return result


def without_nulls(columns: Columns) -> list[dict[str, Any]]:
    names = list(columns)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@settings(deadline=None)  # the first table loads pyarrow
@given(batches())
def test_rows_come_back_as_they_were(found: list[Columns]) -> None:
    for columns in found:
        assert without_nulls(to_columns(to_table(columns))) == without_nulls(columns)
        table, note = from_bytes(to_bytes(to_table(columns), {"n": 1}))
        assert without_nulls(to_columns(table)) == without_nulls(columns)
        assert note == {"n": 1}


def write(path: Path, found: list[Columns]) -> bytes:
    with RowsFile(path) as file:
        for columns in found:
            file.write(columns)
    assert file.rows == sum(len(columns["text"]) for columns in found)
    return path.read_bytes()


def test_the_bytes_do_not_depend_on_the_batches(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "GROUP_ROWS", 7)
    monkeypatch.setattr(module, "GROUP_CHARACTERS", 50)
    count = 60
    rows = {
        "text": ["t" * (n % 13) for n in range(count)],
        "source": ["s"] * count,
        "id": [str(n) for n in range(count)],
        "row": list(range(count)),
        "year": [n if n % 3 else None for n in range(count)],
    }
    whole = write(tmp_path / "a.parquet", [rows])
    for cut in ([0, 1, 2, 30, count], [0, 7, 14, count], list(range(count + 1))):
        parts = [{name: values[a:b] for name, values in rows.items()} for a, b in pairwise(cut)]
        assert write(tmp_path / "b.parquet", parts) == whole
    read = joined(list(read_rows(tmp_path / "b.parquet", 9)))
    assert read == rows


def test_a_value_that_json_has_no_form_for_becomes_text() -> None:
    rows = {"text": ["a"], "source": ["s"], "id": ["0"], "row": [0], "day": [datetime.date(2020, 1, 2)]}
    assert to_columns(to_table(rows))["day"] == ["2020-01-02"]
