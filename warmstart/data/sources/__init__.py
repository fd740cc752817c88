"""Sources: where rows come from. A source yields rows one by one, in a fixed order, in constant memory.

A row is a dictionary with the field's usual columns. Text rows have `text` (str), `source` (the source's
label) and `id` (stable across runs and machines: a path, a line number, a key of the data set).

A row that cannot be used is told to the caller's `on_bad_row`, which raises (the default) or counts and
returns; then the source goes on with the next row. So the source knows what is wrong and where, and the
caller decides what it costs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import Field, field_validator

from warmstart.errors import DataError, nearest
from warmstart.part import Part

Row = dict[str, Any]
OnBadRow = Callable[[DataError], None]


def raise_error(error: DataError) -> None:
    """The default `on_bad_row`: the first bad row ends the reading."""
    raise error


class Source(Part, room="sources"):
    """The contract of a source."""

    label: str | None = Field(None, description="What metrics call this source; default: its type.")

    @field_validator("label")
    @classmethod
    def _whole_characters(cls, label: str | None) -> str | None:
        if label is not None and label != label.encode("utf-8", "replace").decode("utf-8"):
            raise ValueError("label: half a character (a single surrogate); write the whole one")
        return label

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        """The rows, always in the same order.

        Args:
            on_bad_row: called for each row that cannot be used; where it returns, the row is left out.

        Raises:
            DataError: nothing to read at all; or, from `on_bad_row`, a row that cannot be read (the message
                names the file and the row).
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A short hex digest that changes whenever the rows could change, without reading more than it must.

        Raises:
            DataError: nothing to read.
        """
        raise NotImplementedError


def text_of(row: Any, column: str, where: str) -> str:
    """The text in a row's column.

    Args:
        where: the row's place for the message, e.g. `corpus.jsonl, line 3`.

    Raises:
        DataError: the column is missing, or holds no text that a tokenizer could take.
    """
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a mapping of columns, found {_kind(row)}")
    if column not in row:
        known = ", ".join(str(name) for name in list(row)[:8]) or "none"
        raise DataError(f"{where}: there is no column '{column}'{nearest(column, row)}; columns: {known}")
    text = row[column]
    if not isinstance(text, str):
        raise DataError(f"{where}: column '{column}' must hold text, found {_kind(text)}")
    return checked(text, where, f"column '{column}' is")


def checked(text: str, where: str, what: str = "it is") -> str:
    """The text itself, where it is neither blank nor broken.

    Raises:
        DataError: only white space, or bytes that are no UTF-8 (decoded with `surrogateescape`), or half a
            character.
    """
    if not text or text.isspace():
        raise DataError(f"{where}: {what} empty: a row without text")
    return valid(text, where, what)


def valid(text: str, where: str, what: str) -> str:
    """The text itself, where it is whole.

    Raises:
        DataError: bytes that are no UTF-8 (decoded with `surrogateescape`), or half a character.
    """
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            found = ord(text[error.start])
            reason = f"byte 0x{found - 0xDC00:02x}" if 0xDC80 <= found <= 0xDCFF else f"half a character, U+{found:04X}"
            raise DataError(f"{where}: {what} not valid UTF-8 text ({reason} at character {error.start})") from None
    return text


def check_value(value: Any, where: str, column: str) -> None:
    """Makes sure that the value of a further column can be written down again.

    Raises:
        DataError: text in it is not valid UTF-8, or it is nested without end.
    """
    if isinstance(value, str):
        valid(value, where, f"column '{column}' is")
    elif isinstance(value, dict | list):
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except (UnicodeEncodeError, RecursionError, ValueError):
            raise DataError(f"{where}: column '{column}' holds text that is not valid UTF-8, or is too deep") from None


def _kind(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} ({str(value)[:40]})"
