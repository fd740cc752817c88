"""Sources: where rows come from. A source yields rows one by one, in a fixed order, in constant memory.

A row is a dictionary with the field's usual columns. Text rows have `text` (str), `source` (the source's name) and
`id` (stable across runs and machines: a path, a line number, a key of the data set).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from warmstart.part import Part

Row = dict[str, Any]


class Source(Part, room="sources"):
    """The contract of a source."""

    def rows(self) -> Iterator[Row]:
        """The rows, always in the same order.

        Raises:
            DataError: nothing to read, or a row that cannot be read (the message names the file and the row).
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A short hex digest that changes whenever the rows could change, without reading more than it must."""
        raise NotImplementedError
