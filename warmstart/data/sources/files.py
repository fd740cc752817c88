"""Local files: plain text, JSON Lines, CSV / TSV and Parquet, plain or compressed (.gz, .zst), by path or
glob.

Everything streams: a file is never held whole, except that `documents: file` makes a text file one
document. Broken bytes are found where they are: lines are decoded with `surrogateescape` and each row is
checked, so that a bad row costs that row and not its file. A damaged compressed file (cut short, wrong
checksum) is one bad row that ends its file, as is one that unfolds without end (`opened.py`).
"""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field

from warmstart.data.cache import digest, file_digest
from warmstart.data.media import with_references
from warmstart.data.sources import OnBadRow, Row, Source, check_value, checked, raise_error, text_of
from warmstart.data.sources.opened import LONGEST, TooMuch, ending, lines, opened, whole
from warmstart.errors import DataError, nearest
from warmstart.places import expanded, is_file, is_folder

JSON_LINES = {".jsonl", ".ndjson", ".json"}
TABLES = {".csv": ",", ".tsv": "\t"}


class Files(Source):
    """Rows of local files. Files are read in the order of their names; `id` is `path:row`.

    The ending decides the form: `.jsonl`, `.ndjson`, `.json` (one object per line), `.csv`, `.tsv` (with a
    header), `.parquet`; anything else is plain text.
    """

    type: Literal["files"] = "files"
    path: str | list[str] = Field(
        description="Paths or globs (`**` crosses folders); relative to the working directory."
    )
    column: str = Field("text", description="The column that holds the text (tables and JSON Lines).")
    columns: list[str] = Field(
        default_factory=list, description="Further columns to keep, e.g. `url` (tables and JSON Lines)."
    )
    documents: Literal["file", "line", "paragraph"] = Field(
        "file", description="Plain text: what one document is; paragraphs end at blank lines."
    )

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        for path in self._paths():
            name = os.fsencode(path).decode("utf-8", "backslashreplace")
            try:
                for number, row in self._rows(path, on_bad_row):
                    yield {"source": self.label or self.type, "id": f"{name}:{number}", **row}
            except TooMuch as error:
                on_bad_row(error)
            except OSError as error:
                reason = error.strerror or str(error).splitlines()[0]
                on_bad_row(DataError(f"{path}: damaged or unreadable file: {reason}"))
            except EOFError:
                on_bad_row(DataError(f"{path}: damaged file: it ends too early"))

    def fingerprint(self) -> str:
        content = [(path.name, file_digest(path)) for path in self._paths()]
        return digest("files", self.column, self.columns, self.documents, content)

    def _paths(self) -> list[Path]:
        """The files, sorted inside each pattern and each once.

        Raises:
            DataError: a pattern matches no file.
        """
        found: dict[Path, None] = {}
        for pattern in [self.path] if isinstance(self.path, str) else self.path:
            path = expanded(pattern)
            matches = [path] if is_file(path) else sorted(map(Path, glob.glob(str(path), recursive=True)))
            files = [match for match in matches if is_file(match)]
            if not files:
                beside = [child.name for child in path.parent.iterdir()] if is_folder(path.parent) else []
                hint = nearest(path.name, beside)
                folder = " (a folder: give a glob such as folder/*.txt)" if is_folder(path) else hint
                raise DataError(f"files: no file matches '{pattern}'{folder}")
            found.update(dict.fromkeys(files))
        return list(found)

    def _rows(self, path: Path, on_bad_row: OnBadRow) -> Iterator[tuple[int, Row]]:
        """(row number from 1, text and further columns) of each usable row."""
        form = ending(path)
        if form == ".parquet":
            yield from self._parquet(path, on_bad_row)
            return
        with opened(path) as file:
            if form in JSON_LINES:
                yield from self._json_lines(path, file, on_bad_row)
            elif form in TABLES:
                yield from self._table(path, file, TABLES[form], on_bad_row)
            else:
                yield from self._plain(path, file, on_bad_row)

    def _row(self, found: Any, path: Path, where: str) -> Row:
        """The text and the further columns; a row of JSON may lack the latter (a table's header may not)."""
        row = {"text": text_of(found, self.column, where), **{name: found.get(name) for name in self.columns}}
        for name in self.columns:
            check_value(row[name], where, name)
        return with_references(row, path.parent, where)

    def _check_columns(self, names: list[str], where: str) -> None:
        for wanted in (self.column, *self.columns):
            if wanted not in names:
                raise DataError(
                    f"{where}: there is no column '{wanted}'{nearest(wanted, names)}; columns: {', '.join(names[:8])}"
                )

    def _json_lines(self, path: Path, file: IO[bytes], on_bad_row: OnBadRow) -> Iterator[tuple[int, Row]]:
        for number, line in enumerate(lines(file, path), start=1):
            if line.isspace():
                continue
            where = f"{path}, line {number}"
            try:
                yield number, self._row(_object(line, where), path, where)
            except DataError as error:
                on_bad_row(error)

    def _table(self, path: Path, file: IO[bytes], delimiter: str, on_bad_row: OnBadRow) -> Iterator[tuple[int, Row]]:
        csv.field_size_limit(LONGEST)  # the module's own limit, 131072, is below many documents
        reader = csv.reader(lines(file, path), delimiter=delimiter, strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            on_bad_row(DataError(f"{path}, line 1: not a header of a table: {error}"))
            return
        if header is None:
            on_bad_row(DataError(f"{path}: empty file: expected a header line with a column '{self.column}'"))
            return
        self._check_columns(header, f"{path}, line 1")
        while True:
            number = reader.line_num + 1
            where = f"{path}, line {number}"
            try:
                values = next(reader)
                if not values:
                    continue
                if len(values) != len(header):
                    raise DataError(f"{where}: {len(values)} values for {len(header)} columns")
                yield number, self._row(dict(zip(header, values, strict=True)), path, where)
            except StopIteration:
                return
            except csv.Error as error:
                on_bad_row(DataError(f"{where}: not a row of a table: {error}"))
            except DataError as error:
                on_bad_row(error)

    def _parquet(self, path: Path, on_bad_row: OnBadRow) -> Iterator[tuple[int, Row]]:
        number = 0
        try:
            for row in self._parquet_rows(path):
                number += 1
                try:
                    yield number, self._row(row, path, f"{path}, row {number}")
                except DataError as error:
                    on_bad_row(error)
        except _Broken as error:
            on_bad_row(DataError(f"{path}: not a whole Parquet file: {error}"))

    def _parquet_rows(self, path: Path) -> Iterator[Row]:
        """Every row's columns.

        Raises:
            _Broken: the library could not go on.
            DataError: a column is not there.
        """
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(path) as table:
                self._check_columns(table.schema_arrow.names, str(path))
                for batch in table.iter_batches(batch_size=256, columns=[self.column, *self.columns]):
                    yield from batch.to_pylist()
        except (DataError, OSError):
            raise
        except Exception as error:  # Arrow's own kinds, and Python's for what it has no value for (a year 300000)
            raise _Broken((str(error).splitlines() or [type(error).__name__])[0]) from error

    def _plain(self, path: Path, file: IO[bytes], on_bad_row: OnBadRow) -> Iterator[tuple[int, Row]]:
        for number, text in _documents(file, self.documents, path):
            try:
                where = str(path) if self.documents == "file" else f"{path}, line {number}"
                yield number, {"text": checked(text, where)}
            except DataError as error:
                on_bad_row(_broken_line(error, path, text) if self.documents == "file" else error)


class _Broken(Exception):
    """What the Parquet library says of a file that it cannot read on."""


def _documents(file: IO[bytes], documents: str, path: Path) -> Iterator[tuple[int, str]]:
    """(number of the first line, text); blank lines are no documents of their own."""
    if documents == "file":
        yield 1, whole(file, path)
        return
    paragraph: list[str] = []
    first, length = 1, 0
    for number, line in enumerate(lines(file, path), start=1):
        if line.isspace():
            if paragraph:
                yield first, "".join(paragraph).rstrip("\n")
            paragraph, length = [], 0
        elif documents == "line":
            yield number, line.rstrip("\n")
        else:
            first = first if paragraph else number
            paragraph.append(line)
            length += len(line)
            if length > LONGEST:
                raise TooMuch(f"{path}, line {first}: a paragraph of more than {LONGEST >> 20} MiB")
    if paragraph:
        yield first, "".join(paragraph).rstrip("\n")


def _object(line: str, where: str) -> Any:
    try:
        return json.loads(line, parse_constant=_missing)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON: {error.msg} at character {error.pos}") from None
    except ValueError:  # Python turns no text of more than 4,300 digits into a number
        raise DataError(f"{where}: not JSON that can be read: a whole number of thousands of digits") from None
    except RecursionError:
        raise DataError(f"{where}: not JSON that can be read: it is nested too deeply") from None


def _missing(_: str) -> None:
    """NaN and Infinity, which JSON does not have and some programs write, are missing values."""


def _broken_line(error: DataError, path: Path, text: str) -> DataError:
    """Says in which line of a whole file the first broken byte is."""
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            line.encode("utf-8")
        except UnicodeEncodeError:
            return DataError(str(error).replace(f"{path}:", f"{path}, line {number}:", 1))
    return error
