"""From rows to documents: which side of the split a row is on, and whether this stage reads it.

The side of a document depends on its text alone (white space normalised, before any rewriting), not on the order of
reading or on its source: the same text is never on both sides, and a corpus that grows keeps the sides of its old
documents. In the same way `split.train: [from, to]` gives a stage a part of the training side; stages with disjoint
parts share no document. With `split.by: column` the side depends on that column's value instead, so that what belongs
together (the chapters of a book, the packages of one project) stays together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.data.cache import digest
from warmstart.data.curated import Notify, Rows, curated, curation_key, mark_of, rewriting_key, rewritten, source_names
from warmstart.data.engine import Engine
from warmstart.data.steps import Columns
from warmstart.errors import DataError

if TYPE_CHECKING:
    from warmstart.recipe_data import Data


@dataclass(frozen=True)
class Document:
    """A text, the number of its source in the recipe, and its side.

    Attributes:
        context: text before the document's own, which is read but never a target.
        score: what a curation step made of the document, for a curriculum.
    """

    source: int
    text: str
    held_out: bool
    context: str = ""
    score: float | None = None


def all_documents(
    data: Data,
    counts: Counter[str] | None = None,
    notify: Notify | None = None,
    *,
    engine: Engine | None = None,
    cache_dir: Path | None = None,
) -> Iterator[Document]:
    """Every document that the stage reads, streaming, always in the same order.

    Args:
        counts: gets what the row steps counted, and `dropped_<step>` for each curation step.
        notify: told about progress and the first skipped rows.

    Raises:
        DataError: a row that cannot be used (with `on_error: raise`), or no row with text at all.
    """
    rows = rewritten(data, engine=engine, cache_dir=cache_dir, notify=notify)
    if counts is not None:
        _counted(rows, counts)
    yield from _documents(rows, data.split.validation, data.split.train)


def _counted(rows: Rows, counts: Counter[str]) -> None:
    """Adds what the row steps counted."""
    counts["rows_skipped"] += rows.counts["rows_skipped"]
    for name in rows.counts:
        if name.startswith("in_"):
            step = name.removeprefix("in_")
            counts[f"dropped_{step}"] += rows.counts[name] - rows.counts[f"out_{step}"]
        elif not name.startswith(("out_", "skipped_", "rows_")):
            counts[name] += rows.counts[name]


def documents(data: Data, *, engine: Engine | None = None, cache_dir: Path | None = None) -> Iterator[str]:
    """All training texts after curation and before rewriting, for whatever must not see the held-out side and must be
    the same in every stage (a tokenizer, a filter); each after the context that its source gave it.

    Raises:
        DataError: as `all_documents`, or every document is held out.
    """
    total = kept = 0
    for document in _documents(curated(data, engine=engine, cache_dir=cache_dir), data.split.validation, (0.0, 1.0)):
        total += 1
        if not document.held_out:
            kept += 1
            yield document.context + document.text
    if not kept:
        raise all_held_out(data, total)


def _documents(rows: Rows, validation: float, part: tuple[float, float]) -> Iterator[Document]:
    for number, columns, row, held_out in _sided(rows, validation, part):
        context, score = columns.get("context"), columns.get("score")
        yield Document(
            number,
            columns["text"][row],
            held_out,
            (context[row] or "") if context is not None else "",
            score[row] if score is not None else None,
        )


def all_rows(
    data: Data,
    counts: Counter[str] | None = None,
    notify: Notify | None = None,
    *,
    engine: Engine | None = None,
    cache_dir: Path | None = None,
) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """Every row that the stage reads, with all its columns: (number of the source, held out, row). As
    `all_documents`."""
    rows = rewritten(data, engine=engine, cache_dir=cache_dir, notify=notify)
    if counts is not None:
        _counted(rows, counts)
    for number, columns, row, held_out in _sided(rows, data.split.validation, data.split.train):
        found = {name: values[row] for name, values in columns.items() if values[row] is not None}
        yield number, held_out, {name: value for name, value in found.items() if name not in ("mark", "row")}


def _sided(rows: Rows, validation: float, part: tuple[float, float]) -> Iterator[tuple[int, Columns, int, bool]]:
    """(number of the source, columns of a batch, place in it, held out) of every row that is read."""
    for number in range(len(rows.files)):
        for columns in rows.batches(number):
            for row, mark in enumerate(columns["mark"]):
                place = mark / 2**64
                if place < validation:
                    yield number, columns, row, True
                elif part[0] <= (place - validation) / (1 - validation) < part[1] or part == (0.0, 1.0):
                    yield number, columns, row, False


def is_held_out(text: str, share: float) -> bool:
    """Whether a text belongs to the validation side, which holds `share` of all texts."""
    return mark_of(text) / 2**64 < share


def all_held_out(data: Data, total: int) -> DataError:
    """The error for a training side without documents."""
    if data.split.train != (0.0, 1.0):
        first, last = data.split.train
        return DataError(f"data.split.train: none of the {total} documents is in the part [{first}, {last}]; widen it")
    return DataError(
        f"data.split.validation: {data.split.validation} holds out all {total} documents; lower it or add documents"
    )


def documents_key(data: Data) -> str:
    """A digest of everything that decides which documents there are and on which side they are."""
    return digest(rewriting_key(data), data.split.validation, data.split.train)


def training_key(data: Data) -> str:
    """A digest of everything that decides what `documents` gives."""
    return digest(curation_key(data), data.split.validation)


def names(data: Data) -> list[str]:
    """One name per source, each different."""
    return source_names(data)
