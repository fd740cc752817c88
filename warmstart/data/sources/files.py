"""Local files: plain text, JSON Lines, CSV / TSV and Parquet, plain or compressed (.gz, .zst), by path or
glob.

Everything streams: a file is never held whole, except that `documents: file` makes a text file one
document. Broken bytes are found where they are: lines are decoded with `surrogateescape` and each row is
checked, so that a bad row costs that row and not its file. A damaged compressed file (cut short, wrong
checksum) is one bad row that ends its file.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field

from warmstart.data.cache import digest, file_digest
from warmstart.data.media import with_references
from warmstart.data.sources import OnBadRow, Row, Source, checked, raise_error, text_of
from warmstart.errors import DataError, nearest

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
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
            try:
                for number, row in self._rows(path, on_bad_row):
                    yield {"source": self.label or self.type, "id": f"{path}:{number}", **row}
            except OSError as error:
                reason = error.strerror or str(error).splitlines()[0]
                on_bad_row(DataError(f"{path}: damaged or unreadable file: {reason}"))
            except EOFError:
                on_bad_row(DataError(f"{path}: damaged file: it ends too early"))

    def fingerprint(self) -> str:
        content = [(Path(path).name, file_digest(path)) for path in self._paths()]
        return digest("files", self.column, self.columns, self.documents, content)

    def _paths(self) -> list[Path]:
        """The files, sorted inside each pattern and each once.

        Raises:
            DataError: a pattern matches no file.
        """
        found: dict[Path, None] = {}
        for pattern in [self.path] if isinstance(self.path, str) else self.path:
            expanded = str(Path(pattern).expanduser())
            matches = [expanded] if Path(expanded).is_file() else sorted(glob.glob(expanded, recursive=True))
            files = [Path(match) for match in matches if Path(match).is_file()]
            if not files:
                parent = Path(expanded).parent
                beside = [child.name for child in parent.iterdir()] if parent.is_dir() else []
                hint = nearest(Path(expanded).name, beside)
                folder = " (a folder: give a glob such as folder/*.txt)" if Path(expanded).is_dir() else hint
                raise DataError(f"files: no file matches '{pattern}'{folder}")
            found.update(dict.fromkeys(files))
        return list(found)

    def _rows(self, path: Path, on_bad_row: OnBadRow) -> Iterator[tuple[int, Row]]:
        """(row number from 1, text and further columns) of each usable row."""
        ending = _ending(path)
        if ending == ".parquet":
            yield from self._parquet(path, on_bad_row)
            return
        with _open(path) as file:
            if ending in JSON_LINES:
                yield from self._json_lines(path, file, on_bad_row)
            elif ending in TABLES:
                yield from self._table(path, file, TABLES[ending], on_bad_row)
            else:
                yield from self._plain(path, file, on_bad_row)

    def _row(self, found: Any, path: Path, where: str) -> Row:
        """The text and the further columns; a row of JSON may lack the latter (a table's header may not)."""
        row = {"text": text_of(found, self.column, where), **{name: found.get(name) for name in self.columns}}
        return with_references(row, path.parent, where)

    def _check_columns(self, names: list[str], where: str) -> None:
        for wanted in (self.column, *self.columns):
            if wanted not in names:
                raise DataError(
                    f"{where}: there is no column '{wanted}'{nearest(wanted, names)}; columns: {', '.join(names[:8])}"
                )

    def _json_lines(self, path: Path, file: IO[bytes], on_bad_row: OnBadRow) -> Iterator[tuple[int, Row]]:
        for number, line in enumerate(_lines(file), start=1):
            if line.isspace():
                continue
            where = f"{path}, line {number}"
            try:
                yield number, self._row(_object(line, where), path, where)
            except DataError as error:
                on_bad_row(error)

    def _table(self, path: Path, file: IO[bytes], delimiter: str, on_bad_row: OnBadRow) -> Iterator[tuple[int, Row]]:
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the module's own limit, 131072, is below many documents
        reader = csv.reader(_lines(file), delimiter=delimiter, strict=True)
        header = next(reader, None)
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
        import pyarrow
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(path) as table:
                names = table.schema_arrow.names
                self._check_columns(names, str(path))
                number = 0
                for batch in table.iter_batches(batch_size=256, columns=[self.column, *self.columns]):
                    for row in batch.to_pylist():
                        number += 1
                        try:
                            yield number, self._row(row, path, f"{path}, row {number}")
                        except DataError as error:
                            on_bad_row(error)
        except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
            on_bad_row(DataError(f"{path}: not a whole Parquet file: {str(error).splitlines()[0]}"))

    def _plain(self, path: Path, file: IO[bytes], on_bad_row: OnBadRow) -> Iterator[tuple[int, Row]]:
        for number, text in _documents(file, self.documents):
            try:
                where = str(path) if self.documents == "file" else f"{path}, line {number}"
                yield number, {"text": checked(text, where)}
            except DataError as error:
                on_bad_row(_broken_line(error, path, text) if self.documents == "file" else error)


def _documents(file: IO[bytes], documents: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, text); blank lines are no documents of their own."""
    if documents == "file":
        yield 1, file.read().decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n")
        return
    paragraph: list[str] = []
    first = 1
    for number, line in enumerate(_lines(file), start=1):
        if line.isspace():
            if paragraph:
                yield first, "".join(paragraph).rstrip("\n")
            paragraph = []
        elif documents == "line":
            yield number, line.rstrip("\n")
        else:
            first = first if paragraph else number
            paragraph.append(line)
    if paragraph:
        yield first, "".join(paragraph).rstrip("\n")


def _lines(file: IO[bytes]) -> Iterator[str]:
    """Lines with `\\n`, without a byte-order mark; broken bytes stay visible as lone surrogates."""
    for number, raw in enumerate(file):
        line = raw.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape")
        yield line[:-2] + "\n" if line.endswith("\r\n") else line


def _object(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise DataError(f"{where}: not JSON that can be read: it is nested too deeply") from None


def _broken_line(error: DataError, path: Path, text: str) -> DataError:
    """Says in which line of a whole file the first broken byte is."""
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            line.encode("utf-8")
        except UnicodeEncodeError:
            return DataError(str(error).replace(f"{path}:", f"{path}, line {number}:", 1))
    return error


def _ending(path: Path) -> str:
    """The ending that says the form, compression left aside: `.jsonl` for `a.jsonl.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSIONS else path.suffix.lower()


def _open(path: Path) -> IO[bytes]:
    """A binary stream of the decompressed bytes; reading a file that is cut short raises OSError."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    if compression is None:
        return path.open("rb")
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(str(path), compression=compression), 2**16)
