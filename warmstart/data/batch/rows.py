"""No packing: rows stay rows, with all their columns, for objectives that pair texts, pictures or sounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from warmstart.data.batch import Block, Packing, Tokens


class WholeRows(Packing):
    """Each row as it is, with all columns; what it refers to (`image`, `audio`) is opened when it is used."""

    type: Literal["rows"] = "rows"
    whole_rows: ClassVar[bool] = True

    def pack(self, documents: Iterable[Tokens], length: int, padding: int) -> Iterator[Block]:
        raise TypeError("rows are not packed into blocks")
