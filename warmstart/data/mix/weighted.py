"""Each source at a weight that the recipe gives, whatever its size.

What a recipe says is what is drawn: weights that do not add up to 1 are an error unless they are to be scaled, and
every source has a weight, so that a forgotten one does not vanish without a word. Without weights all sources come
equally often ("skill-stratified" sampling, where sources are skills).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from warmstart.data.mix import Stock
from warmstart.data.mix.drawing import Shares, source_names, source_numbers
from warmstart.errors import DataError

SUM_TOLERANCE = 1e-6
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _form(value: Any) -> str:
    return "weights in order" if isinstance(value, list) else "weights by name"


class Weighted(Shares):
    """Fixed weights; without any, every source equally often."""

    type: Literal["weighted"] = "weighted"
    weights: (
        Annotated[
            Annotated[dict[str, Weight], Tag("weights by name")] | Annotated[list[Weight], Tag("weights in order")],
            Discriminator(_form),
        ]
        | None
    ) = Field(None, description="The weight of each source, by name or in the order of the recipe; all equal if none.")
    normalise: bool = Field(False, description="Scale the weights so that they add up to 1; else they must.")

    @model_validator(mode="after")
    def _adds_up(self) -> Weighted:
        if self.weights is None:
            return self
        total = sum(self.weights.values() if isinstance(self.weights, dict) else self.weights)
        if total == 0:
            raise ValueError("all weights are 0: there is nothing to draw")
        if not self.normalise and abs(total - 1) > SUM_TOLERANCE:
            raise ValueError(f"the weights add up to {total:g}, not to 1; mend them or set normalise: true")
        return self

    def shares(self, stock: Stock) -> np.ndarray:
        names = source_names(stock)
        if self.weights is None:
            weights = [1.0] * len(names)
        elif isinstance(self.weights, list):
            if len(self.weights) != len(names):
                raise DataError(f"mix.weights: {len(self.weights)} weights for {len(names)} sources")
            weights = self.weights
        else:
            source_numbers(self.weights, stock, "weights")
            missing = [name for name in names if name not in self.weights]
            if missing:
                raise DataError(f"mix.weights: no weight for source '{missing[0]}'; give 0 to leave it out")
            weights = [self.weights[name] for name in names]
        return np.array(weights) / sum(weights)
