"""Replay: a small rate of an older corpus beside the new one, against forgetting.

A model that goes on training on new data forgets the old; a few per cent of old data in every batch keep most of it
(1 to 5 % for a mild change of data, 10 to 50 % for a new language or domain). The price is that part of the budget.
Inside the old and inside the new sources, rows come in proportion to the sizes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from warmstart.data.mix import Stock
from warmstart.data.mix.drawing import Shares, in_proportion, source_numbers
from warmstart.errors import DataError


class Replay(Shares):
    """Old sources at a rate, the new ones in proportion to their sizes."""

    type: Literal["replay"] = "replay"
    old: Annotated[list[str], Field(min_length=1)] = Field(description="The sources that the model has seen before.")
    rate: Annotated[float, Field(ge=0, le=1)] = Field(0.05, description="The share of all old sources together.")

    def shares(self, stock: Stock) -> np.ndarray:
        old = sorted(set(source_numbers(self.old, stock, "old")))
        new = [number for number in range(len(stock.sizes)) if number not in old]
        for what, members, total in (("old", old, self.rate), ("new", new, 1 - self.rate)):
            if total > 0 and not sum(stock.sizes[number] for number in members):
                raise DataError(f"mix.rate: {total:g} of the rows are to be {what} ones, but no {what} source has rows")
        return in_proportion(stock, old, self.rate) + in_proportion(stock, new, 1 - self.rate)
