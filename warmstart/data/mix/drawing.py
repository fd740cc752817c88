"""Drawing from sources at given shares: whose turn it is, and which of its rows comes next.

Both halves are as even as they can be. The turns follow Tijdeman's rule: after any n draws at constant shares p, a
source has been drawn within 1 of p * n times (independent draws would stray by the square root of n: a source with a
share of 1 % would be missing for hundreds of steps). Inside a source every row comes once before any comes again, in an
order that is shuffled anew each epoch. The price: the turns are a regular pattern, the same for every seed; the rows
are what is random.

The state is two whole numbers per source, so a resumed run draws exactly what an uninterrupted one would have.

Source: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from warmstart.data.mix import Mix, MixState, Stock
from warmstart.data.mix.order import Order
from warmstart.errors import DataError, StateError, nearest
from warmstart.randomness import derive_seed

WhenDry = Literal["repeat", "raise"]
TOLERANCE = 1e-6  # for what rounding does to share * draws; far below the smallest difference that matters


class Shares(Mix):
    """What mixes have in common that draw from each source at a share that does not change by itself."""

    when_dry: WhenDry = Field(
        "repeat",
        description="What to do when every row of a source was drawn: repeat begins its next epoch (metrics tell the "
        "epochs of each source), raise is an error.",
    )

    def shares(self, stock: Stock) -> np.ndarray:
        """The share of each source: `(sources,)`, from 0, adding up to 1.

        Raises:
            DataError: the settings do not fit the sources.
        """
        raise NotImplementedError

    def start(self, stock: Stock, *, seed: int) -> MixState:
        return Drawing(stock, self.shares(stock), seed=seed, when_dry=self.when_dry)


class Drawing(MixState):
    """Rows of several sources at given shares, which may be set anew at any time.

    Args:
        shares: `(sources,)`, adding up to 1.

    Raises:
        DataError: a source with a share has no rows; or later, it has run dry and may not repeat.
    """

    def __init__(self, stock: Stock, shares: np.ndarray, *, seed: int, when_dry: WhenDry = "repeat") -> None:
        self.names = source_names(stock)
        self._sizes, self._seed, self._when_dry = [int(size) for size in stock.sizes], seed, when_dry
        self._places = [0] * len(self._sizes)
        self._orders: dict[int, tuple[int, Order]] = {}
        self.set_shares(shares)

    def set_shares(self, shares: np.ndarray) -> None:
        """From now on these shares hold; rows drawn before do not count towards them."""
        for name, size, share in zip(self.names, self._sizes, shares, strict=True):
            if share > 0 and size == 0:
                raise DataError(f"mix: source '{name}' has no rows to draw from; give it no share")
        self.shares = [float(share) for share in shares]  # lists: a numpy call costs more than a few sources do
        self._since = [0] * len(self._sizes)

    def next(self, count: int, progress: float = 0.0) -> list[tuple[int, int]]:
        rows = []
        for _ in range(count):
            source = due(self.shares, self._since)
            self._since[source] += 1
            rows.append((source, self._row(source, progress)))
        return rows

    def _row(self, source: int, progress: float) -> int:
        """The next row of a source."""
        place, size = self._places[source], self._sizes[source]
        epoch, inside = divmod(place, size)
        # A loop whose budget is used asks for one step more, to find that it has no budget for it: no draw at all.
        if epoch and self._when_dry == "raise" and progress < 1:
            raise DataError(
                f"mix: source '{self.names[source]}' has run dry: all its {size} rows were drawn; lower its share, add "
                f"documents, or set when_dry: repeat"
            )
        if source not in self._orders or self._orders[source][0] != epoch:
            self._orders[source] = (epoch, Order(size, derive_seed(self._seed, "source", source, "epoch", epoch)))
        self._places[source] = place + 1
        return self._orders[source][1][inside]

    def report(self) -> dict[str, float]:
        """`mix/<source>`: its present share; `epochs/<source>`: how often its rows were drawn, on average."""
        shares = {f"mix/{name}": share for name, share in zip(self.names, self.shares, strict=True)}
        seen = zip(self.names, self._places, self._sizes, strict=True)
        return shares | {f"epochs/{name}": place / size for name, place, size in seen if size}

    def state_dict(self) -> dict[str, Any]:
        return {"places": list(self._places), "since": list(self._since)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The places; the shares are to be set first."""
        for key in ("places", "since"):
            if not is_counts(state.get(key), len(self._sizes)):
                raise StateError(
                    f"mix: the saved '{key}' must be {len(self._sizes)} whole numbers, found {state.get(key)!r}"
                )
        self._places, self._since = list(state["places"]), list(state["since"])


def due(shares: Sequence[float], drawn: Sequence[int]) -> int:
    """Whose turn it is: of the sources that are owed enough, the one that must be served soonest.

    Args:
        shares: of each source, adding up to 1.
        drawn: how often each was drawn at these shares.
    """
    turn = sum(drawn) + 1
    slack = 1 / max(2 * sum(share > 0 for share in shares) - 2, 2)
    owed = [share * turn - times for share, times in zip(shares, drawn, strict=True)]
    candidates = [n for n, share in enumerate(shares) if share > 0 and owed[n] >= slack - TOLERANCE]
    if not candidates:  # cannot be but for rounding
        return max(range(len(owed)), key=lambda n: owed[n])
    return min(candidates, key=lambda n: (1 - slack - owed[n]) / shares[n])


def source_names(stock: Stock) -> list[str]:
    """What recipes call each source; its number where it has no name."""
    return list(stock.names) if stock.names else [str(number) for number in range(len(stock.sizes))]


def source_numbers(names: Iterable[str], stock: Stock, field: str) -> list[int]:
    """The numbers of some sources.

    Raises:
        DataError: one of the names is no source.
    """
    known = source_names(stock)
    for name in names:
        if name not in known:
            raise DataError(
                f"mix.{field}: there is no source '{name}'{nearest(name, known)}; sources: {', '.join(known)}"
            )
    return [known.index(name) for name in names]


def in_proportion(stock: Stock, members: Sequence[int], total: float = 1.0) -> np.ndarray:
    """A total share divided among some sources in proportion to their sizes: `(sources,)`, 0 for the others.

    Raises:
        DataError: there is something to divide, and none of them has rows.
    """
    shares = np.zeros(len(stock.sizes))
    sizes = np.array([stock.sizes[member] for member in members], dtype=np.float64)
    if total > 0:
        if sizes.sum() == 0:
            raise DataError(f"mix: there are no rows for a share of {total:g}")
        shares[list(members)] = total * sizes / sizes.sum()
    return shares


def is_counts(value: Any, length: int) -> bool:
    """Whether a saved value is a list of so many whole numbers from 0."""
    return (
        isinstance(value, list)
        and len(value) == length
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)
    )
