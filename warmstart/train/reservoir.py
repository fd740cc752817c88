"""A memory of bounded size in which every row that was ever offered stands with the same chance.

Algorithm R: the n-th row offered takes a random one of n places; if that is one of the memory's, the row that stood
there is forgotten. Rows are kept as they are packed (token ids, a few bytes each), so that no text and no tokenizer is
needed to train on them again; a row that stands in the memory already is not taken twice.

Source: Vitter, "Random sampling with a reservoir" (1985).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from warmstart.data.cache import digest
from warmstart.errors import DataError, ModelError
from warmstart.objectives import Row

if TYPE_CHECKING:
    from warmstart.train.penalties import Ground


class Reservoir:
    """At most `size` rows of all that were offered.

    Attributes:
        rows: those kept; arrays of integers as int32.
        offered: how many different ones were offered (a row that was forgotten meanwhile counts anew).

    Example:
        In one's own loop::

            memory = Reservoir(200)
            for rows in steps:
                memory.offer(rows, generator)
            old = memory.drawn(8, generator)
    """

    def __init__(self, size: int) -> None:
        self.size, self.offered = size, 0
        self.rows: list[Row] = []
        self._known: set[bytes] = set()

    def __len__(self) -> int:
        return len(self.rows)

    def offer(self, rows: Iterable[Row], generator: np.random.Generator) -> None:
        """Shows rows to the memory, one after another.

        Raises:
            DataError: a row is not made of arrays, or of arrays of another size than the rows kept.
        """
        for row in rows:
            self._check(row)
            identity = _identity(row)
            if identity in self._known:
                continue
            self.offered += 1
            place = len(self.rows) if len(self.rows) < self.size else int(generator.integers(self.offered))
            if place >= self.size:
                continue
            if place == len(self.rows):
                self.rows.append(_small(row))
            else:
                self._known.discard(_identity(self.rows[place]))
                self.rows[place] = _small(row)
            self._known.add(identity)

    def drawn(self, count: int, generator: np.random.Generator) -> list[Row]:
        """Random rows, none twice before all were there."""
        order = generator.permutation(len(self.rows))
        return [_large(self.rows[int(order[number % len(order)])]) for number in range(count)]

    def length(self) -> int | None:
        """Tokens of a row; None where there is none, or rows are not text."""
        return len(self.rows[0]["tokens"]) if self.rows and "tokens" in self.rows[0] else None

    def tensors(self) -> dict[str, torch.Tensor]:
        """All rows, each column as one tensor `(rows, ...)`; zeros where a row lacks a column that others have."""
        examples = {column: array for row in self.rows for column, array in row.items()}
        return {
            column: torch.from_numpy(np.stack([row.get(column, np.zeros_like(example)) for row in self.rows]))
            for column, example in sorted(examples.items())
        }

    def load(self, tensors: dict[str, torch.Tensor], offered: int) -> None:
        """The memory as it was saved."""
        self.offered = offered
        count = len(next(iter(tensors.values()))) if tensors else 0
        arrays = {column: tensor.numpy() for column, tensor in tensors.items()}
        self.rows = [{column: array[number] for column, array in arrays.items()} for number in range(count)]
        self._known = {_identity(row) for row in self.rows}

    def _check(self, row: Row) -> None:
        for column, value in row.items():
            if not isinstance(value, np.ndarray):
                raise DataError(f"a memory keeps rows of arrays; the column '{column}' is {type(value).__name__}")
            if self.rows and value.shape != self.rows[0].get(column, value).shape:
                raise DataError(
                    f"a memory keeps rows of one form: '{column}' has the shape {self.rows[0][column].shape} in it, "
                    f"{value.shape} in the row offered"
                )


def _small(row: Row) -> Row:
    return {c: array.astype(np.int32) if array.dtype == np.int64 else array.copy() for c, array in row.items()}


def _large(row: Row) -> Row:
    return {c: array.astype(np.int64) if array.dtype == np.int32 else array for c, array in row.items()}


def _identity(row: Row) -> bytes:
    return b"".join(_large(row)[column].tobytes() for column in sorted(row))


def vocabulary_of(tokenizer: Any) -> str:
    """A digest of the words that token ids name: ids mean nothing under another tokenizer."""
    return digest(sorted(tokenizer.get_vocab().items()))


def check_still_fits(who: str, memories: Sequence[Reservoir], vocabulary: str, ground: Ground) -> None:
    """What is remembered can be trained on beside the rows of this stage.

    Raises:
        DataError: the rows have another length.
        ModelError: the tokenizer is another one.
    """
    if vocabulary != vocabulary_of(ground.tokenizer):
        raise ModelError(f"{who}: remembered rows are ids of another tokenizer, which mean other words")
    kept = next((length for memory in memories if (length := memory.length()) is not None), None)
    first = next(iter(ground.rows()), None)
    here = len(first["tokens"]) if first is not None and "tokens" in first else None
    if kept is not None and here is not None and kept != here:
        raise DataError(f"{who}: remembered rows have {kept} tokens, those of this stage {here}; use one data.length")
