"""Rows that stay rows: a stage's data for objectives that are not about blocks of tokens.

One Arrow file per side and source, memory-mapped: a row is read when it is asked for, and no corpus is held in memory.
A row is a dictionary with `text`, `source`, `id` and all its other columns; pictures and sounds stay references
(`warmstart/data/media.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

SCHEMA = pa.schema([("row", pa.large_string()), ("score", pa.float32())])
BATCH = 1024


class Records:
    """The rows of one source, read from disk when they are asked for; it stands where `Blocks` stand."""

    length = 1
    """A row counts as one where a block counts its tokens."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            self._table = pa.ipc.open_file(source).read_all()
        scores = self._table.column("score")
        self.scores: np.ndarray | None = None if scores.null_count else scores.to_numpy() if len(scores) else None

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """A row with all its columns.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        found: dict[str, Any] = json.loads(self._table.column("row")[number].as_py())
        return found

    def real_tokens(self, number: int) -> int:
        """One: rows have no padding."""
        return 1


class RecordsFile:
    """A file of rows that grows row by row."""

    def __init__(self, path: Path) -> None:
        self._path, self.count = path, 0
        self._rows: list[str] = []
        self._scores: list[float | None] = []

    def write(self, row: dict[str, Any], score: float | None) -> None:
        self._rows.append(json.dumps(row, ensure_ascii=False, default=str))
        self._scores.append(score)
        self.count += 1
        if len(self._rows) == BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(pa.record_batch({"row": self._rows, "score": self._scores}, schema=SCHEMA))
            self._rows, self._scores = [], []

    def __enter__(self) -> RecordsFile:
        self._writer = pa.ipc.new_file(str(self._path), SCHEMA)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
