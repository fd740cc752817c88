"""Shares between proportional and equal: p_i ~ size_i ^ (1 / temperature).

Temperature 1 draws in proportion to the sizes, larger ones lift the small sources, and infinity would draw all equally
often. Papers that write p_i ~ size_i ^ alpha mean temperature = 1 / alpha: multilingual BERT's 0.7 is 1.43, XLM-R's 0.3
is 3.33. The price of lifting a source is that its rows come back sooner: `epochs/<source>` in the metrics tells.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from warmstart.data.mix import Stock
from warmstart.data.mix.drawing import Shares
from warmstart.errors import DataError


class Temperature(Shares):
    """Shares in proportion to size ^ (1 / temperature)."""

    type: Literal["temperature"] = "temperature"
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        3.0, description="1: in proportion to the sizes; larger: small sources more often; 1 / alpha of other writings."
    )

    def shares(self, stock: Stock) -> np.ndarray:
        sizes = np.array(stock.sizes, dtype=np.float64)
        if sizes.sum() == 0:
            raise DataError("mix: there are no rows to draw from")
        raised = (sizes / sizes.max()) ** (1 / self.temperature)  # scaled first: no size is too large for its power
        shares: np.ndarray = raised / raised.sum()
        return shares
