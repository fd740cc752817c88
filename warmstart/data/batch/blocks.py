"""Blocks of tokens on disk: `.npy` files per side and source, read as memory maps.

Three always (`tokens`, `documents`, `positions`); `context` where some token is never a target, and `scores` (one
number per block: the mean score of its tokens' documents) where the documents have scores.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.lib import format as npy

from warmstart.data.batch import Block


class Blocks:
    """The blocks of one source, read from disk when they are asked for.

    Args:
        name: the path of the files without `.tokens.npy`, `.documents.npy`, `.positions.npy`.
        joined: show each block as one document: attention runs over the whole block.
    """

    def __init__(self, name: Path, *, joined: bool = False) -> None:
        self._tokens, self._documents, self._positions = (_open(_file(name, column)) for column in COLUMNS)
        context, scores = _file(name, "context"), _file(name, "scores")
        self._context = _open(context) if context.is_file() else None
        self.scores: np.ndarray | None = _open(scores)[:, 0] if scores.is_file() else None
        self._joined = joined

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def length(self) -> int:
        """Tokens per block."""
        return int(self._tokens.shape[1])

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        """`tokens`, `positions` and `documents` of a block: int64 arrays `(length,)`.

        `documents` numbers the block's documents from 0 (-1 is padding). Where the source has tokens that are never
        targets, also `context`: bool `(length,)`.

        Raises:
            IndexError: there is no such block.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"block {number} of {len(self)}")
        tokens = self._tokens[number].astype(np.int64)
        documents = self._documents[number].astype(np.int64)
        if self._joined:
            row = {"tokens": tokens, "positions": np.arange(len(tokens)), "documents": np.minimum(documents, 0)}
        else:
            row = {"tokens": tokens, "positions": self._positions[number].astype(np.int64), "documents": documents}
        if self._context is not None:
            row["context"] = self._context[number].astype(bool)
        return row

    def real_tokens(self, number: int) -> int:
        """Tokens of a block that are not padding."""
        return int((self._documents[number] >= 0).sum())


COLUMNS = ("tokens", "documents", "positions")


def write_blocks(
    name: Path, blocks: Iterable[Block], length: int, vocabulary: int, scores: np.ndarray | None = None
) -> int:
    """Writes blocks as they come (seven bytes per token where numbers are small) and returns how many.

    Args:
        scores: the score of each document of the corpus, `(documents,)`, or None where they have none.
    """
    small = np.dtype(np.int16 if length <= np.iinfo(np.int16).max else np.int32)
    kinds = {"tokens": np.dtype(np.uint16 if vocabulary <= 2**16 else np.int32), "documents": small, "positions": small}
    count, any_context = 0, False
    with ExitStack() as stack:
        files = {
            column: stack.enter_context(_GrowingArray(_file(name, column), kind, length))
            for column, kind in {**kinds, "context": np.dtype(bool)}.items()
        }
        marks = stack.enter_context(_GrowingArray(_file(name, "scores"), np.dtype(np.float32), 1))
        for block in blocks:
            files["tokens"].append(block.tokens)
            files["documents"].append(_renumbered(block.documents))
            files["positions"].append(block.positions)
            files["context"].append(block.context)
            any_context |= bool(block.context.any())
            if scores is not None:
                marks.append(np.array([scores[block.documents[block.documents >= 0]].mean()]))
            count += 1
    if not any_context:
        _file(name, "context").unlink()
    if scores is None:
        _file(name, "scores").unlink()
    return count


class _GrowingArray:
    """A two-dimensional `.npy` file whose number of rows is known only at the end."""

    def __init__(self, path: Path, kind: np.dtype, width: int) -> None:
        self._file = path.open("wb")
        self._kind, self._width, self._rows = kind, width, 0
        self._header = self._write_header()

    def _write_header(self) -> int:
        """The format leaves room in the header for the number of rows to grow."""
        self._file.seek(0)
        shape = (self._rows, self._width)
        described = {"descr": npy.dtype_to_descr(self._kind), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, described)
        return self._file.tell()

    def append(self, row: np.ndarray) -> None:
        self._file.write(row.astype(self._kind).tobytes())
        self._rows += 1

    def __enter__(self) -> _GrowingArray:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                assert self._write_header() == self._header, "the header's length changed"
        finally:
            self._file.close()


def _renumbered(documents: np.ndarray) -> np.ndarray:
    """Document numbers from 0 inside the block; padding stays -1."""
    real = documents >= 0
    numbers = np.full_like(documents, -1)
    numbers[real] = np.unique(documents[real], return_inverse=True)[1]
    return numbers


def _open(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        assert npy.read_magic(file) == (1, 0)
        shape, _, kind = npy.read_array_header_1_0(file)
    if shape[0] == 0:  # nothing cannot be mapped
        return np.empty(shape, kind)
    # The plain array view is read several times faster, row by row, than the memmap class around it.
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def _file(name: Path, column: str) -> Path:
    return name.with_name(f"{name.name}.{column}.npy")
