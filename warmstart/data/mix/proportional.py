"""Every block of every source once per epoch, in one shuffled order, anew each epoch.

Sources are drawn in proportion to their sizes without saying so: the order runs over all blocks alike. The
state is the place in the endless stream, one integer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal

from warmstart.data.mix import Mix, MixState, Stock
from warmstart.data.mix.order import Order
from warmstart.errors import DataError, StateError
from warmstart.randomness import derive_seed


class Proportional(Mix):
    """All rows of all sources, shuffled together; a new permutation every epoch."""

    type: Literal["proportional"] = "proportional"

    def start(self, stock: Stock, *, seed: int) -> MixState:
        return _Shuffled(stock.sizes, seed)


class _Shuffled(MixState):
    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        if sum(sizes) < 1:
            raise DataError("mix: there are no rows to draw from")
        self._ends = list(accumulate(sizes))
        self._seed = seed
        self._place = 0
        self._epoch, self._order = 0, self._order_of(0)

    def next(self, count: int, progress: float = 0.0) -> list[tuple[int, int]]:
        rows = []
        for place in range(self._place, self._place + count):
            epoch, inside = divmod(place, len(self._order))
            if epoch != self._epoch:
                self._epoch, self._order = epoch, self._order_of(epoch)
            rows.append(self._locate(self._order[inside]))
        self._place += count
        return rows

    def state_dict(self) -> dict[str, Any]:
        return {"place": self._place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        place = state.get("place")
        if not isinstance(place, int) or isinstance(place, bool) or place < 0:
            raise StateError(f"mix: the saved place must be a whole number from 0, found {place!r}")
        self._place = place

    def _order_of(self, epoch: int) -> Order:
        return Order(self._ends[-1], derive_seed(self._seed, "epoch", epoch))

    def _locate(self, number: int) -> tuple[int, int]:
        """(source, row inside it) of a number over all sources."""
        source = bisect_right(self._ends, number)
        return source, number - (self._ends[source - 1] if source else 0)
