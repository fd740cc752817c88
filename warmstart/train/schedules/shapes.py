"""The schedules: warm-up, then a curve down to a floor.

Each is a pure function of the share of the budget that is used, so that a schedule means the same whatever the budget's
unit is, and needs no state. `inverse-sqrt` is the exception that follows steps: it is for runs whose end is not known.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from warmstart.train.schedules import Schedule

Share = Annotated[float, Field(ge=0, le=1)]
WarmUp = Annotated[
    float,
    Field(
        ge=0,
        description="Linear warm-up: a share of the budget (below 1) or a number of steps (1 and above).",
    ),
]
Floor = Annotated[float, Field(ge=0, le=1, description="The factor at the end of the budget.")]


def warm_up(length: float, step: int, progress: float) -> float:
    """The factor of a linear warm-up: from just above 0 to 1 after `length` (a share of the budget, or steps)."""
    if length <= 0:
        return 1.0
    if length >= 1:
        return min(1.0, (step + 1) / length)
    # At progress 0 the first step would have rate 0 and be wasted: it gets a hundredth.
    return min(1.0, max(progress / length, 0.01))


def after_warm_up(length: float, progress: float) -> float:
    """How far the curve behind the warm-up is, 0 to 1. A warm-up in steps takes no share of the curve."""
    start = length if length < 1 else 0.0
    return min(1.0, max(0.0, (progress - start) / (1 - start)))


class Constant(Schedule):
    """The peak rate all the time, after the warm-up."""

    type: Literal["constant"] = "constant"
    warmup: WarmUp = 0.0

    def factor(self, step: int, progress: float, share: float = 0.0) -> float:
        return warm_up(self.warmup, step, progress)


class Cosine(Schedule):
    """Half a cosine from the peak to the floor."""

    type: Literal["cosine"] = "cosine"
    warmup: WarmUp = 0.05
    floor: Floor = 0.1

    def factor(self, step: int, progress: float, share: float = 0.0) -> float:
        curve = 0.5 * (1 + math.cos(math.pi * after_warm_up(self.warmup, progress)))
        return warm_up(self.warmup, step, progress) * (self.floor + (1 - self.floor) * curve)


class Linear(Schedule):
    """A straight line from the peak to the floor."""

    type: Literal["linear"] = "linear"
    warmup: WarmUp = 0.05
    floor: Floor = 0.0

    def factor(self, step: int, progress: float, share: float = 0.0) -> float:
        curve = 1 - after_warm_up(self.warmup, progress)
        return warm_up(self.warmup, step, progress) * (self.floor + (1 - self.floor) * curve)


class WarmupStableDecay(Schedule):
    """Warm-up, a constant stretch, and a decay over the last `decay` of the budget (MiniCPM, arXiv 2404.06395)."""

    type: Literal["wsd"] = "wsd"
    warmup: WarmUp = 0.05
    decay: Annotated[float, Field(gt=0, le=1, description="The share of the budget that the decay takes.")] = 0.2
    shape: Literal["linear", "cosine", "sqrt"] = Field("linear", description="sqrt: 1 - sqrt(t), arXiv 2405.18392.")
    floor: Floor = 0.0

    def factor(self, step: int, progress: float, share: float = 0.0) -> float:
        t = min(1.0, max(0.0, (progress - (1 - self.decay)) / self.decay))
        curve = {"linear": 1 - t, "cosine": 0.5 * (1 + math.cos(math.pi * t)), "sqrt": 1 - math.sqrt(t)}[self.shape]
        return warm_up(self.warmup, step, progress) * (self.floor + (1 - self.floor) * curve)


class InverseSqrt(Schedule):
    """Peak * sqrt(w / step) after `warmup` = w steps (Vaswani et al., arXiv 1706.03762): it needs no known end."""

    type: Literal["inverse-sqrt"] = "inverse-sqrt"
    warmup: Annotated[int, Field(ge=1, description="Steps of linear warm-up.")] = 100

    def factor(self, step: int, progress: float, share: float = 0.0) -> float:
        return min((step + 1) / self.warmup, math.sqrt(self.warmup / (step + 1)))
