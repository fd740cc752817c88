"""The mixture of the old pre-training with its general web text replaced by the new domain.

Going on training on a domain alone first damages what the model could do ("stability gap"). The remedy: keep the rates
of the sources that the model was pre-trained on, and let the domain take the place of the replaced ones (for Llama's
rates, web text: 82 %); what stays is a replay of the rest. One epoch is a small fixed set that is gone through several
times. Its replay rows are the same in every epoch; its domain rows are too (`fixed`), or are drawn anew each time, the
ones not seen yet first (`per-epoch`, which gave the paper its best results). The price: the old rates must be known,
or guessed from a published mixture.

Source: "Efficient Continual Pre-training by Mitigating the Stability Gap", arXiv 2406.14833.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from warmstart.data.mix import Mix, MixState, Stock
from warmstart.data.mix.drawing import is_counts, source_names, source_numbers
from warmstart.data.mix.order import Order
from warmstart.data.mix.weighted import SUM_TOLERANCE, Weight
from warmstart.errors import DataError, StateError, nearest
from warmstart.randomness import derive_seed

Refresh = Literal["fixed", "per-epoch"]


def rate_matched_mixture(rates: Mapping[str, float], replace: Sequence[str], by: str) -> dict[str, float]:
    """The old rates with the replaced sources' share given to `by`.

    Raises:
        DataError: rates that do not add up to 1, or a replaced source that has none.
    """
    if abs(sum(rates.values()) - 1) > SUM_TOLERANCE:
        raise DataError(f"rates: they add up to {sum(rates.values()):g}, not to 1")
    for name in replace:
        if name not in rates:
            raise DataError(f"replace: there is no rate of '{name}'{nearest(name, rates)}; rates: {', '.join(rates)}")
    shares = {name: rate for name, rate in rates.items() if name not in replace}
    shares[by] = shares.get(by, 0.0) + sum(rates[name] for name in set(replace))
    return shares


def apportioned(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers that add up to `total`, each within 1 of its share of it (largest remainders first)."""
    exact = [share * total for share in shares]
    counts = [int(number) for number in exact]
    by_remainder = sorted(range(len(shares)), key=lambda number: counts[number] - exact[number])
    for number in by_remainder[: total - sum(counts)]:
        counts[number] += 1
    return counts


class RateMatched(Mix):
    """Epochs of one size at the old rates, the replaced sources' share drawn from the domain."""

    type: Literal["rate-matched"] = "rate-matched"
    rates: Annotated[dict[str, Weight], Field(min_length=1)] = Field(
        description="Share of each source in the old pre-training; replaced sources need not be there."
    )
    replace: list[str] = Field(default_factory=list, description="The rates that the domain takes over.")
    by: str = Field(description="The domain's source.")
    refresh: Refresh = Field("per-epoch", description="Whether each epoch draws its own rows of the domain.")
    epoch: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Rows (blocks) of an epoch; default: as many as the domain has."
    )

    @model_validator(mode="after")
    def _rates_fit(self) -> RateMatched:
        try:
            rate_matched_mixture(self.rates, self.replace, self.by)
        except DataError as error:
            raise ValueError(str(error)) from error
        return self

    def start(self, stock: Stock, *, seed: int) -> MixState:
        shares = rate_matched_mixture(self.rates, self.replace, self.by)
        numbers = source_numbers(shares, stock, "rates")
        domain = source_numbers([self.by], stock, "by")[0]
        length = self.epoch or stock.sizes[domain]
        counts = [0] * len(stock.sizes)
        for number, count in zip(numbers, apportioned(list(shares.values()), length), strict=True):
            counts[number] = count
        for name, count, size in zip(source_names(stock), counts, stock.sizes, strict=True):
            if count and not size:
                raise DataError(f"mix.rates: source '{name}' has no rows to draw from")
        if not sum(counts):
            raise DataError("mix: there are no rows to draw from")
        anew = {domain} if self.refresh == "per-epoch" else set()
        return _Epochs(stock, counts, anew, seed)


class _Epochs(MixState):
    def __init__(self, stock: Stock, counts: list[int], anew: set[int], seed: int) -> None:
        self._names, self._sizes, self._counts, self._seed = source_names(stock), stock.sizes, counts, seed
        self._anew, self._ends = anew, list(accumulate(counts))
        self._place = 0
        self._orders: dict[tuple[str, int], tuple[int, Order]] = {}

    def next(self, count: int, progress: float = 0.0) -> list[tuple[int, int]]:
        rows = [self._row(place) for place in range(self._place, self._place + count)]
        self._place += count
        return rows

    def _row(self, place: int) -> tuple[int, int]:
        """The epoch's slots come in a new order each time; a slot belongs to a source, and is its so-manieth there."""
        epoch, inside = divmod(place, self._ends[-1])
        slot = self._order("slots", 0, epoch, self._ends[-1])[inside]
        source = bisect_right(self._ends, slot)
        drawn = slot - (self._ends[source - 1] if source else 0)
        if source in self._anew:
            drawn += epoch * self._counts[source]
        turn, row = divmod(drawn, self._sizes[source])
        return source, self._order("source", source, turn, self._sizes[source])[row]

    def _order(self, kind: str, number: int, turn: int, size: int) -> Order:
        known = self._orders.get((kind, number))
        if known is None or known[0] != turn:
            known = (turn, Order(size, derive_seed(self._seed, kind, number, turn)))
            self._orders[kind, number] = known
        return known[1]

    def report(self) -> dict[str, float]:
        """`mix/<source>`: its share; `epochs`: how often the set was gone through."""
        total = self._ends[-1]
        shares = {f"mix/{name}": count / total for name, count in zip(self._names, self._counts, strict=True)}
        return shares | {"epochs": self._place / total}

    def state_dict(self) -> dict[str, Any]:
        return {"place": self._place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not is_counts([state.get("place")], 1):
            raise StateError(f"mix: the saved place must be a whole number from 0, found {state.get('place')!r}")
        self._place = state["place"]
