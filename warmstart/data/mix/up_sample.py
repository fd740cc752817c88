"""Some sources at shares of their own, all others in proportion to their sizes.

For the one source that matters more than its size says: law at 30 %, whatever else there is.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from warmstart.data.mix import Stock
from warmstart.data.mix.drawing import Shares, in_proportion, source_numbers
from warmstart.data.mix.weighted import SUM_TOLERANCE
from warmstart.errors import DataError

Share = Annotated[float, Field(ge=0, le=1)]


class UpSample(Shares):
    """Named sources at given shares; what is left is divided among the others in proportion to their sizes."""

    type: Literal["up-sample"] = "up-sample"
    share: Annotated[dict[str, Share], Field(min_length=1)] = Field(description="Share by source, e.g. {law: 0.3}.")

    @model_validator(mode="after")
    def _at_most_one(self) -> UpSample:
        total = sum(self.share.values())
        if total > 1 + SUM_TOLERANCE:
            raise ValueError(f"the shares add up to {total:g}, more than 1")
        return self

    def shares(self, stock: Stock) -> np.ndarray:
        named = source_numbers(self.share, stock, "share")
        others = [number for number in range(len(stock.sizes)) if number not in named]
        rest = 1 - sum(self.share.values())
        if rest > SUM_TOLERANCE and not sum(stock.sizes[number] for number in others):
            raise DataError(f"mix.share: the shares add up to {1 - rest:g}, and no other source has rows for the rest")
        shares = in_proportion(stock, others, rest if rest > SUM_TOLERANCE else 0.0)
        shares[named] = list(self.share.values())
        return shares / shares.sum()
