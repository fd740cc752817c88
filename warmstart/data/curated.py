"""From sources to curated (and rewritten) rows, once: read, number, run the steps, keep the rows in the cache as
Parquet.

With one process and steps that can stream, reading and curating are a single pass. Otherwise the rows are written as
they were read, and the steps run over that file by an engine (`warmstart/data/engine.py`), one pass for each `fit` and
one for the steps between two of them. Both ways give the same rows.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from warmstart.data.cache import cache_folder, digest, entry
from warmstart.data.engine import BATCH_ROWS, Engine
from warmstart.data.rows import RowsFile, from_bytes, read_rows, to_bytes, to_columns, to_table
from warmstart.data.sources import Row, Source, raise_error
from warmstart.data.steps import (
    Chain,
    Columns,
    Outcome,
    RowStep,
    Stream,
    limited,
    measured,
    size,
    step_names,
    whole_texts,
)
from warmstart.errors import DataError

if TYPE_CHECKING:
    from warmstart.recipe_data import Data

FORMAT = 3  # raised whenever the same recipe would give other documents, tokens or blocks than before
BATCH_CHARACTERS = 2**20
SHOWN_SKIPS = 5
NOTE_SECONDS = 10.0
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Rows:
    """The rows of a recipe's data after its steps.

    Attributes:
        files: one Parquet file per source (see `warmstart/data/rows.py`).
        counts: `rows_read`, `rows_skipped` (rows that the source could not give, or that a step failed on), and
            `in_<step>`, `out_<step>`, `skipped_<step>`, and what steps counted (see `Counted`).
        names: what metrics call each source.
    """

    files: list[Path]
    counts: dict[str, int]
    names: list[str]

    def batches(self, number: int, batch: int = BATCH_ROWS) -> Iterator[Columns]:
        """The rows of source `number`, with `mark` (see `mark_of`)."""
        return read_rows(self.files[number], batch)


def curated(
    data: Data, *, engine: Engine | None = None, cache_dir: Path | None = None, notify: Notify | None = None
) -> Rows:
    """The rows of a recipe's data after curation, from the cache where they were made before.

    Args:
        engine: where the steps run; it does not change the rows.
        notify: told in one line about progress and skipped rows.

    Raises:
        DataError: a row that cannot be used (with `on_error: raise`), or no row at all.
        UserError: the cache cannot be written.
    """
    folder = (cache_dir or cache_folder()) / "rows" / curation_key(data)
    pass_ = _Pass(list(data.curate), data, engine or Engine(), notify)
    facts = entry(folder, lambda draft: pass_.make(draft, pass_.read_source), notify=notify)
    return Rows(_files(folder, data), facts["counts"], source_names(data))


def rewritten(
    data: Data, *, engine: Engine | None = None, cache_dir: Path | None = None, notify: Notify | None = None
) -> Rows:
    """The rows after curation and rewriting; arguments and errors are those of `curated`.

    Rewriting never moves a row to the other side of the split: its `mark` is that of the text before.
    """
    before = curated(data, engine=engine, cache_dir=cache_dir, notify=notify)
    if not data.rewrite:
        return before
    key = digest(rewriting_key(data), "rewritten")
    folder = (cache_dir or cache_folder()) / "rows" / key
    pass_ = _Pass(list(data.rewrite), data, engine or Engine(), notify)
    facts = entry(folder, lambda draft: pass_.make(draft, before.batches), notify=notify)
    counts = {**before.counts, **facts["counts"], "rows_read": before.counts["rows_read"]}
    counts["rows_skipped"] = before.counts["rows_skipped"] + facts["counts"]["rows_skipped"]
    return Rows(_files(folder, data), counts, source_names(data))


def curation_key(data: Data) -> str:
    """A digest of everything that decides the curated rows."""
    return digest(
        FORMAT,
        [[source.label, source.fingerprint()] for source in data.sources],
        [part.key() for part in data.curate],
        data.on_error,
        data.max_documents,
        *([data.split.by] if data.split.by is not None else []),
    )


def rewriting_key(data: Data) -> str:
    """A digest of everything that decides the rows after curation and rewriting."""
    return digest(curation_key(data), [part.key() for part in data.rewrite])


def mark_of(text: str) -> int:
    """A number from 0 to 2^64 - 1 that decides the side of a text: equal texts (white space normalised) have equal
    marks, whatever their source and order."""
    normal = " ".join(text.split()).encode()
    mark = hashlib.blake2b(normal, digest_size=8, person=b"warmstart-split").digest()
    return int.from_bytes(mark, "little")


def source_names(data: Data) -> list[str]:
    """One name per source, each different: its label or type; the second of a name gets `-2`."""
    result: list[str] = []
    labels = [source.label or source.name for source in data.sources]
    for number, label in enumerate(labels):
        same = labels[:number].count(label)
        result.append(f"{label}-{same + 1}" if same else label)
    return result


def _files(folder: Path, data: Data) -> list[Path]:
    return [folder / f"{number}.parquet" for number in range(len(data.sources))]


class _Pass:
    """Steps over the rows of every source, into the files of one cache entry."""

    def __init__(self, steps: list[RowStep], data: Data, engine: Engine, notify: Notify | None) -> None:
        self.steps, self.data, self.engine, self.notify = steps, data, engine, notify
        self.names = step_names(steps)
        self.counts: Counter[str] = Counter(rows_read=0, rows_skipped=0)
        for name in self.names:
            self.counts.update({f"in_{name}": 0, f"out_{name}": 0})
        self._last_note = time.monotonic()
        self.marked = self.marked_by_column = 0

    def make(self, folder: Path, read: Callable[[int], Iterator[Columns]]) -> dict[str, Any]:
        """Writes the files; `read` gives the rows of a source as they come in."""
        streams = [step.stream() for step in self.steps]
        paths = _files(folder, self.data)
        if self.engine.kind == "local" and self.engine.workers == 1 and all(stream is not None for stream in streams):
            found_streams = zip(self.names, streams, self.steps, strict=True)
            chain = self._chain([(n, limited(s, step.only)) for n, s, step in found_streams if s is not None])
            found = self._write(paths, lambda number: (self._counted(chain(batch)) for batch in read(number)))
        else:
            found = self._in_passes(paths, read)
        if not found:
            skipped = f" ({self.counts['rows_skipped']} rows were skipped)" if self.counts["rows_skipped"] else ""
            known = ", ".join(source_names(self.data))
            raise DataError(f"data.source: the corpus is empty: no document in {known}{skipped}")
        if self.data.split.by is not None and self.marked and not self.marked_by_column:
            raise DataError(f"data.split.by: none of the {self.marked:,} rows has a value in '{self.data.split.by}'")
        return {"counts": {name: self.counts[name] for name in self.counts}}

    def read_source(self, number: int) -> Iterator[Columns]:
        """The rows of a source as they are, numbered over all sources."""
        source = self.data.sources[number]
        skip = self.data.on_error == "skip"
        rows = source.rows((lambda error: self._skip(str(error))) if skip else raise_error)
        for batch in _batches(islice(rows, self.data.max_documents)):
            columns = _columns(batch, source)
            first = self.counts["rows_read"]
            columns["row"] = list(range(first, first + len(batch)))
            self.counts["rows_read"] += len(batch)
            yield columns

    def _in_passes(self, paths: list[Path], read: Callable[[int], Iterator[Columns]]) -> int:
        """The rows to files, then groups of steps over these; each group but the first begins with a step that fits."""
        found = self._write(paths, read, final=not self.steps)
        steps = list(zip(self.names, self.steps, strict=True))
        while steps:
            end = next((n for n, (_, step) in enumerate(steps) if n > 0 and step.fits), len(steps))
            group, steps = steps[:end], steps[end:]
            functions: list[tuple[str, Stream]] = []
            for name, step in group:
                fitted = self._fit(name, step, paths) if step.fits else None
                functions.append((name, limited(partial(step.apply, fitted=fitted), step.only)))
            old = [path.rename(path.with_name(f"before-{path.name}")) for path in paths]
            answers = partial(self._answers, old, partial(_answer, self._chain(functions)))
            found = self._write(paths, answers, final=not steps)
            for path in old:
                path.unlink()
        return found

    def _fit(self, name: str, step: RowStep, paths: list[Path]) -> Any:
        if self.notify:
            self.notify(f"{name.replace('_', '-')}: looking at all rows first")
        measure = partial(_measured, step)
        answers = (answer for path in paths for answer in self.engine.map(path, measure) if answer)
        found = (from_bytes(answer)[0].to_pydict() for answer in answers)
        return step.fit(found)

    def _answers(self, files: list[Path], function: Callable[[Columns], bytes], number: int) -> Iterator[Columns]:
        for answer in self.engine.map(files[number], function):
            table, (counts, skipped) = from_bytes(answer)
            yield self._counted(Outcome(to_columns(table), Counter(counts), skipped))

    def _chain(self, steps: list[tuple[str, Stream]]) -> Chain:
        return Chain(steps, skip=self.data.on_error == "skip")

    def _counted(self, outcome: Outcome) -> Columns:
        self.counts.update(outcome.counts)
        for text in outcome.skipped:
            self._skip(text)
        return outcome.columns

    def _skip(self, text: str) -> None:
        self.counts["rows_skipped"] += 1
        if self.notify and self.counts["rows_skipped"] <= SHOWN_SKIPS:
            self.notify(f"warning: skipped: {text}")

    def _marks(self, columns: Columns) -> list[int]:
        """The mark of each row: of its text, or of its value in the column `split.by` where it has one."""
        by = self.data.split.by
        values = (columns.get(by) if by is not None else None) or [None] * size(columns)
        self.marked += len(values)
        self.marked_by_column += sum(value is not None for value in values)
        rows = zip(whole_texts(columns), values, strict=True)
        return [mark_of(text if value is None else f"{by}: {value}") for text, value in rows]

    def _write(self, paths: list[Path], rows: Callable[[int], Iterator[Columns]], final: bool = True) -> int:
        """Writes what `rows` gives for each source; the last time with the mark of each text that has none yet."""
        found = 0
        for number, path in enumerate(paths):
            with RowsFile(path) as file:
                for columns in rows(number):
                    if final and size(columns) and "mark" not in columns:
                        columns = {**columns, "mark": self._marks(columns)}
                    file.write(columns)
                    if self.notify and time.monotonic() - self._last_note > NOTE_SECONDS:
                        self._last_note = time.monotonic()
                        name = source_names(self.data)[number]
                        self.notify(f"{name}: {self.counts['rows_read']:,} rows read, {file.rows:,} written")
            found += file.rows
        return found


def _measured(step: RowStep, columns: Columns) -> bytes:
    found = measured(step, columns)
    return b"" if found is None else to_bytes(pa.table({name: pa.array(values) for name, values in found.items()}))


def _answer(chain: Chain, columns: Columns) -> bytes:
    outcome = chain(columns)
    return to_bytes(to_table(outcome.columns), [outcome.counts, outcome.skipped])


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """A bounded number of rows and characters at a time."""
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row["text"])
        if len(batch) == BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _columns(batch: list[Row], source: Source) -> Columns:
    names = list(dict.fromkeys(name for row in batch for name in row))
    for name in ("row", "mark"):
        if name in names:
            label = source.label or source.name
            raise DataError(f"source '{label}': '{name}' is the name of a column that warmstart makes; rename it")
    columns = {name: [row.get(name) for row in batch] for name in names}
    return {**columns, **{name: [str(value) for value in columns[name]] for name in ("source", "id")}}
