"""Rows on disk between the steps: one Parquet file per source, read and written in constant memory.

`text`, `source`, `id`, `row` and `mark` are columns of their own; all others stand in `more` as a JSON object, so that
any mixture of schemas (two sources with different columns, a column that is a number here and a text there) is one
kind of file. What JSON has no form for (a date) becomes text. `mark` says on which side of the split a row is
(`warmstart/data/documents.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from warmstart.data.steps import Columns, size

SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("id", pa.string()),
        ("row", pa.int64()),
        ("mark", pa.uint64()),
        ("more", pa.large_string()),
    ]
)
GROUP_ROWS = 4096
GROUP_CHARACTERS = 2**23


def to_table(columns: Columns) -> pa.Table:
    """Columns of rows as a table of the fixed schema. Every row needs `text`, `source`, `id` and `row`."""
    count = size(columns)
    others = [name for name in columns if name not in SCHEMA.names]
    fixed = {name: columns.get(name, [None] * count) for name in SCHEMA.names[:-1]}
    more = [
        json.dumps({n: columns[n][row] for n in others if columns[n][row] is not None}, sort_keys=True, default=str)
        for row in range(count)
    ]
    return pa.table({**fixed, "more": more}, schema=SCHEMA)


def to_columns(table: pa.Table | pa.RecordBatch) -> Columns:
    """The opposite of `to_table`. A column that some rows lack is `None` there; absent where every row lacks it."""
    columns: Columns = {name: table.column(name).to_pylist() for name in SCHEMA.names[:-1]}
    if all(mark is None for mark in columns["mark"]):
        del columns["mark"]
    more = [json.loads(text) if text != "{}" else {} for text in table.column("more").to_pylist()]
    for name in dict.fromkeys(name for values in more for name in values):
        columns[name] = [values.get(name) for values in more]
    return columns


def to_bytes(table: pa.Table, note: Any = None) -> bytes:
    """A table as an Arrow stream, with a JSON value beside it."""
    table = table.replace_schema_metadata({"note": json.dumps(note)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def from_bytes(content: bytes) -> tuple[pa.Table, Any]:
    """The opposite of `to_bytes`."""
    with pa.ipc.open_stream(content) as stream:
        table = stream.read_all()
    return table, json.loads(table.schema.metadata[b"note"])


def read_rows(path: Path, batch: int) -> Iterator[Columns]:
    """The rows of a file, `batch` at a time; huge rows come in smaller batches."""
    with pq.ParquetFile(path) as file:
        for found in file.iter_batches(batch_size=batch):
            if found.num_rows:
                yield to_columns(found)


def row_groups(path: Path) -> int:
    """How many pieces a file has that can be read apart."""
    with pq.ParquetFile(path) as file:
        return int(file.num_row_groups)


def read_row_group(path: Path, group: int, batch: int) -> Iterator[Columns]:
    """The rows of one piece of a file, `batch` at a time."""
    with pq.ParquetFile(path) as file:
        for found in file.iter_batches(batch_size=batch, row_groups=[group]):
            if found.num_rows:
                yield to_columns(found)


class RowsFile:
    """A file of rows that grows batch by batch. Its bytes depend on the rows alone, not on how they were batched."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows = 0
        self._waiting: list[pa.Table] = []
        self._rows_waiting = self._characters_waiting = 0

    def write(self, columns: Columns) -> None:
        if not size(columns):
            return
        table, start = to_table(columns), 0
        for row, text in enumerate(columns["text"]):
            self._rows_waiting += 1
            self._characters_waiting += len(text)
            if self._rows_waiting == GROUP_ROWS or self._characters_waiting >= GROUP_CHARACTERS:
                self._waiting.append(table.slice(start, row + 1 - start))
                start = row + 1
                self._flush()
        if start < table.num_rows:
            self._waiting.append(table.slice(start))
        self.rows += table.num_rows

    def _flush(self) -> None:
        if self._waiting:
            group = pa.concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(group, row_group_size=group.num_rows)
            self._waiting, self._rows_waiting, self._characters_waiting = [], 0, 0

    def __enter__(self) -> RowsFile:
        self._writer: Any = pq.ParquetWriter(self._path, SCHEMA, compression="zstd", compression_level=1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
