"""The infinite schedule (arXiv 2403.08763, section 7): warm-up, cooldown to a constant, constant, annealing at the end.

The peak is left early for a rate that can be held for as long as data come. A model that is to go on later is kept from
before the annealing (`anneal: 0`), so that nothing needs to be re-warmed when more data come: what re-warming makes a
model forget is not forgotten. The price is a higher loss until the annealing.

The cooldown is half a cosine from the peak to `constant`, the annealing exponential from there to `floor`.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from warmstart.train.schedules import Schedule
from warmstart.train.schedules.shapes import Share, WarmUp, warm_up


class Infinite(Schedule):
    """Warm-up, cosine cooldown to a constant rate, constant, exponential annealing over the last part."""

    type: Literal["infinite"] = "infinite"
    warmup: WarmUp = 0.01
    cooldown: Share = Field(0.5, description="The share of the budget that the cooldown takes after the warm-up.")
    constant: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="The factor of the constant stretch.")
    anneal: Share = Field(0.15, description="The share of the budget that the annealing takes; 0: none.")
    floor: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="The factor at the end of the annealing.")

    @model_validator(mode="after")
    def _fits(self) -> Infinite:
        if self.floor > self.constant:
            raise ValueError(f"floor {self.floor:g} is above the constant factor {self.constant:g}")
        used = (self.warmup if self.warmup < 1 else 0.0) + self.cooldown + self.anneal
        if used > 1 + 1e-9:
            raise ValueError(f"warm-up, cooldown and annealing take {used:g} of the budget; at most 1 is there")
        return self

    def factor(self, step: int, progress: float, share: float = 0.0) -> float:
        begin = self.warmup if self.warmup < 1 else 0.0
        t = min(1.0, max(0.0, (progress - begin) / self.cooldown)) if self.cooldown else 1.0
        rate = self.constant + (1 - self.constant) * 0.5 * (1 + math.cos(math.pi * t))
        if self.anneal and progress > 1 - self.anneal:
            rate = self.constant * (self.floor / self.constant) ** min(
                1.0, (progress - (1 - self.anneal)) / self.anneal
            )
        return warm_up(self.warmup, step, progress) * rate
