"""Labelled rows of an evaluator's own: read, cut into a part to learn from and a part to be judged by.

A downstream task is a source with a column of labels, for whole texts or, where rows have a list of words, for every
word. Which side a row is on depends on the value of one column alone (`by`, before any rewriting), so that what belongs
together, the paragraphs of a document, stays together; and of a large source the same rows are taken by everybody.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from warmstart.data.cache import cache_folder, digest, entry
from warmstart.data.curated import mark_of
from warmstart.data.rewrite import Rewrite
from warmstart.data.sources import Source
from warmstart.data.steps import Columns, joined, size
from warmstart.errors import DataError, RecipeError, nearest
from warmstart.evaluate import Evaluator

FORMAT = 2  # of what is kept in the cache
ROWS_AT_A_TIME = 256
SIDES = ("train", "test")


@dataclass(frozen=True)
class Example:
    """A text with its label; or its words, in the text joined by spaces, with one label each. Where the row has a
    picture, what refers to it."""

    text: str
    labels: list[str]
    words: list[str] | None = None
    image: str | None = None


@dataclass(frozen=True)
class Examples:
    """The two sides, and the labels that the training side has, in alphabetical order."""

    train: list[Example]
    test: list[Example]
    classes: list[str]

    def numbers(self, labels: list[str]) -> np.ndarray:
        """The labels as numbers of their classes, int64; -1 for one that the training side does not have."""
        known = {label: number for number, label in enumerate(self.classes)}
        return np.array([known.get(label, -1) for label in labels], dtype=np.int64)


class Labelled(Evaluator):
    """What evaluators with labelled rows are set by."""

    task: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = Field(
        description="What metrics call the task."
    )
    source: Source = Field(description="Where the labelled rows come from.")
    rewrite: list[Rewrite] = Field(default_factory=list, description="What is made of the rows first.")
    label: str = Field("label", description="The column with the label.")
    words: str | None = Field(
        None, description="A column with a list of words; the label's column then has a list with one label for each."
    )
    by: str = Field("id", description="Rows with the same value of this column are on the same side.")
    test: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="Share of the rows that accuracy is measured on."
    )
    rows: Annotated[int, Field(ge=2)] = Field(2000, description="At most so many rows, both sides together.")
    length: Annotated[int, Field(ge=2)] = Field(128, description="Tokens of a text that are read.")

    @cached_property
    def examples(self) -> Examples:
        """The rows of both sides, read once and kept in the cache.

        Raises:
            DataError: a row without the columns that are needed, a side without rows, or fewer than two classes.
        """
        settings = self.model_dump(mode="json", include={"label", "words", "by", "test", "rows"})
        steps = [step.key() for step in self.rewrite]
        folder = cache_folder() / "labelled" / digest(FORMAT, settings, steps, self.source.fingerprint())

        def make(draft: Path) -> dict[str, Any]:
            found = heapq.nsmallest(self.rows, self._marked(), key=lambda found: found[:2])
            text = json.dumps([[side, e.text, e.labels, e.words, e.image] for _, _, side, e in found])
            (draft / "rows.json").write_text(text, encoding="utf-8")
            return {"rows": len(found)}

        entry(folder, make)
        sides: dict[str, list[Example]] = {side: [] for side in SIDES}
        for side, *values in json.loads((folder / "rows.json").read_text(encoding="utf-8")):
            sides[side].append(Example(*values))
        for side, found in sides.items():
            if not found:
                raise DataError(
                    f"{self._where}: no labelled row is on the {side} side; change 'test', or give more rows"
                )
        classes = sorted({label for example in sides["train"] for label in example.labels})
        if len(classes) < 2:
            raise DataError(f"{self._where}: the column '{self.label}' has only one label, '{classes[0]}'")
        return Examples(sides["train"], sides["test"], classes)

    @property
    def _where(self) -> str:
        return f"evaluator {self.type}, task {self.task}"  # type: ignore[attr-defined]

    def _marked(self) -> Iterator[tuple[int, int, str, Example]]:
        """Every labelled row with a mark that decides whether it is taken, its number, and its side."""
        number = 0
        for columns in self._batches():
            before = mark_column(columns, self.by, self._where)
            rewritten = self._rewritten(columns | {"side": before})
            for row in range(size(rewritten)):
                example = self._example(rewritten, row)
                if example is not None:
                    side = SIDES[int(rewritten["side"][row] / 2**64 < self.test)]
                    yield mark_of(f"{rewritten['id'][row]} {example.text}"), number, side, example
                    number += 1

    def _batches(self) -> Iterator[Columns]:
        rows, number = self.source.rows(), 0
        while some := list(islice(rows, ROWS_AT_A_TIME)):
            columns = joined([{name: [value] for name, value in row.items()} for row in some])
            yield columns | {"row": list(range(number, number + len(some)))}
            number += len(some)

    def _rewritten(self, columns: Columns) -> Columns:
        for step in self.rewrite:
            if step.fits:
                raise RecipeError(f"{self._where}: rewrite '{step.name}' must see all rows first: not here")
            columns = step.apply(columns)
        return columns

    def _example(self, columns: Columns, row: int) -> Example | None:
        """The example of a row; None for a row without a label."""
        label = one_of(columns, self.label, row, self._where)
        words = one_of(columns, self.words, row, self._where) if self.words is not None else None
        if label is None or (words is None and self.words is not None):
            return None
        if words is None:
            return Example(columns["text"][row], [str(label)], image=columns.get("image", {row: None})[row])
        if not (isinstance(words, list) and isinstance(label, list) and len(words) == len(label) > 0):
            raise DataError(
                f"{self._where}: '{self.words}' and '{self.label}' must be lists with one label for each word; "
                f"row {columns['id'][row]} has {_found(words)} and {_found(label)}"
            )
        return Example(" ".join(map(str, words)), [str(one) for one in label], [str(word) for word in words])


def _found(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, list) else f"a {type(value).__name__}"


def spans(example: Example) -> list[tuple[int, int]]:
    """Where in the text the label's words are: first character and the one after the last; of a text all of it."""
    if example.words is None:
        return [(0, len(example.text))]
    found, place = [], 0
    for word in example.words:
        found.append((place, place + len(word)))
        place += len(word) + 1
    return found


def one_of(columns: Columns, name: str, row: int, where: str) -> Any:
    """What a row has in a column.

    Raises:
        DataError: there is no such column.
    """
    if name not in columns:
        known = [column for column in columns if column not in ("row", "side")]
        raise DataError(f"{where}: there is no column '{name}'{nearest(name, known)}; columns: {', '.join(known)}")
    return columns[name][row]


def mark_column(columns: Columns, by: str, where: str) -> list[int]:
    """For each row a number from 0 to 2^64 - 1 that depends on the column alone."""
    return [mark_of(f"{by}: {one_of(columns, by, row, where)}") for row in range(size(columns))]
