"""From sources to documents: read, curate, and split by the hash of the text.

The side of a document depends on its text alone (white space normalised), not on the order of reading or on
its source: the same text is never on both sides, and a corpus that grows keeps the sides of its old
documents.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from warmstart.data.cache import digest
from warmstart.data.curate import Columns
from warmstart.data.sources import OnBadRow, Row, Source, raise_error
from warmstart.errors import DataError

if TYPE_CHECKING:
    from warmstart.recipe import Data

FORMAT = 1  # raised whenever the same recipe would give other documents, tokens or blocks than before
BATCH_ROWS = 256
BATCH_CHARACTERS = 2**20
SHOWN_SKIPS = 5


@dataclass(frozen=True)
class Document:
    """A text, the number of its source in the recipe, and its side."""

    source: int
    text: str
    held_out: bool


def all_documents(
    data: Data, counts: Counter[str] | None = None, notify: Callable[[str], None] | None = None
) -> Iterator[Document]:
    """Every document of a recipe's data that curation keeps, streaming, always in the same order.

    Args:
        counts: filled while reading: `rows_skipped`, and `dropped_<step>` for each curation step.
        notify: told about the first skipped rows.

    Raises:
        DataError: a row that cannot be used (with `on_error: raise`), or no row with text at all.
    """
    counts = Counter() if counts is None else counts
    steps = [(f"dropped_{part.name.replace('-', '_')}", part.start()) for part in data.curate]
    found = False
    for number, source in enumerate(data.sources):
        rows = islice(source.rows(_on_bad_row(data, counts, notify)), data.max_documents)
        for columns in _batches(rows):
            for name, step in steps:
                before = len(columns["text"])
                columns = step(columns)
                counts[name] += before - len(columns["text"])
            for text in columns["text"]:
                found = True
                yield Document(number, text, is_held_out(text, data.split.validation))
    if not found:
        skipped = f" ({counts['rows_skipped']} rows were skipped)" if counts["rows_skipped"] else ""
        raise DataError(f"data.source: the corpus is empty: no document in {', '.join(names(data))}{skipped}")


def documents(data: Data) -> Iterator[str]:
    """The training texts, for whatever must not see the held-out side (a tokenizer, a filter).

    Raises:
        DataError: as `all_documents`, or every document is held out.
    """
    total = kept = 0
    for document in all_documents(data):
        total += 1
        if not document.held_out:
            kept += 1
            yield document.text
    if not kept:
        raise all_held_out(data, total)


def is_held_out(text: str, share: float) -> bool:
    """Whether a text belongs to the validation side, which holds `share` of all texts."""
    normal = " ".join(text.split()).encode()
    mark = hashlib.blake2b(normal, digest_size=8, person=b"warmstart-split").digest()
    return int.from_bytes(mark, "little") < share * 2**64


def all_held_out(data: Data, total: int) -> DataError:
    """The error for a training side without documents."""
    return DataError(
        f"data.split.validation: {data.split.validation} holds out all {total} documents; lower it or add documents"
    )


def documents_key(data: Data) -> str:
    """A digest of everything that decides which documents there are and on which side they are."""
    return digest(
        FORMAT,
        [source.fingerprint() for source in data.sources],
        [part.model_dump(mode="json") for part in data.curate],
        data.split.validation,
        data.on_error,
        data.max_documents,
    )


def names(data: Data) -> list[str]:
    """One name per source, each different: its label or type; the second of a name gets `-2`."""
    result: list[str] = []
    for source in data.sources:
        name = _label(source)
        same = sum(_label(other) == name for other in data.sources[: len(result)])
        result.append(f"{name}-{same + 1}" if same else name)
    return result


def _label(source: Source) -> str:
    return source.label or source.name


def _on_bad_row(data: Data, counts: Counter[str], notify: Callable[[str], None] | None) -> OnBadRow:
    if data.on_error == "raise":
        return raise_error

    def skip(error: DataError) -> None:
        counts["rows_skipped"] += 1
        if notify and counts["rows_skipped"] <= SHOWN_SKIPS:
            notify(f"warning: skipped: {error}")

    return skip


def _batches(rows: Iterator[Row]) -> Iterator[Columns]:
    """Rows as columns, a bounded number of rows and characters at a time."""
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row["text"])
        if len(batch) == BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield _columns(batch)
            batch, characters = [], 0
    if batch:
        yield _columns(batch)


def _columns(batch: list[Row]) -> Columns:
    return {name: [row[name] for row in batch] for name in ("text", "source", "id")}
