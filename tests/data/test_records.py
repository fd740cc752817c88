"""Rows that stay rows: all of them, with all columns, on their sides, and those that cannot be opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from corpora import GivenRows

from warmstart.data.prepare import prepare
from warmstart.data.records import Records, RecordsFile
from warmstart.errors import DataError
from warmstart.recipe_data import Data

ROWS = [{"text": f"row {n}", "pair": f"other {n}", "number": n, "tags": ["a", n]} for n in range(40)]


def data_of(rows: list[dict[str, Any]], **settings: Any) -> Data:
    data = Data(source="python-stdlib", split={"validation": 0.25}, packing="rows", **settings)
    return data.model_copy(update={"source": GivenRows(given=rows)})


def test_no_row_and_no_column_is_lost(tmp_path: Path) -> None:
    data = data_of(ROWS)
    made = prepare(data, None, cache_dir=tmp_path)
    again = prepare(data, None, cache_dir=tmp_path)
    sides = [[records[n] for records in side for n in range(len(records))] for side in (made.train, made.validation)]
    found = sorted((row for side in sides for row in side), key=lambda row: row["number"])
    assert [{k: row[k] for k in ROWS[0]} for row in found] == ROWS
    assert {row["source"] for row in found} == {"given"}
    assert len(sides[1]) == made.statistics["validation_documents"] > 2
    assert made.statistics["documents"] == 40
    assert again.fingerprint == made.fingerprint
    assert prepare(data_of(ROWS[1:]), None, cache_dir=tmp_path).fingerprint != made.fingerprint
    only = prepare(data, None, cache_dir=tmp_path, sides=("validation",))
    assert only.train == []
    assert [only.validation[0][n] for n in range(len(only.validation[0]))] == sides[1]


def test_a_file_of_many_rows(tmp_path: Path) -> None:
    with RecordsFile(tmp_path / "a.arrow") as file:
        for number in range(2500):
            file.write({"n": number, "text": "é"}, number / 2)
    records = Records(tmp_path / "a.arrow")
    assert len(records) == 2500
    assert [records[n]["n"] for n in (0, 1023, 1024, 2499)] == [0, 1023, 1024, 2499]
    assert records.scores is not None
    assert records.scores[2499] == 1249.5
    with pytest.raises(IndexError):
        records[2500]


def test_a_broken_picture_names_its_row_or_is_counted(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (3, 3)).save(tmp_path / "good.png")
    rows = [{**row, "image": str(tmp_path / "good.png")} for row in ROWS]
    rows[7]["image"] = str(tmp_path / "missing.png")
    with pytest.raises(DataError, match=r"source 'GivenRows', row 7: '.*missing.png' cannot be read"):
        prepare(data_of(rows), None, cache_dir=tmp_path)
    told: list[str] = []
    made = prepare(data_of(rows, on_error="skip"), None, cache_dir=tmp_path, notify=told.append)
    assert made.statistics["rows_skipped"] == 1
    assert made.statistics["documents"] == 39
    assert any("skipped: row 7" in line for line in told)


def test_an_empty_side(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.split.validation"):
        prepare(data_of(ROWS[:1]), None, cache_dir=tmp_path)


def test_rows_are_json(tmp_path: Path) -> None:
    made = prepare(data_of(ROWS), None, cache_dir=tmp_path)
    assert json.dumps(made.train[0][0])
