"""Re-warming: the rate goes up again to go on with a finished model, and down again (arXiv 2308.04014).

A finished model ends at a tiny learning rate; at that rate it learns new data slowly. So: a linear warm-up from
`start` to the peak over W steps, then half a cosine down to `floor`. With T steps in the budget, t = 0, 1, ...::

    t < W:   start + (1 - start) (t + 1) / W
    t >= W:  floor + (1 - floor) (1 + cos(pi (t - W) / (D - W))) / 2   up to t = D, then floor

as multiples of the peak; W = round(warmup T), D = decay T. The trade-off: the loss first rises, on the old data and
on the new, and the higher the peak, the more is learnt and the more forgotten. The step that ends the warm-up has the
whole peak, where `cosine` reaches it one step later: that is the difference between the two.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch.optim.lr_scheduler import LambdaLR

from warmstart.errors import UserError
from warmstart.train.schedules import Schedule
from warmstart.train.schedules.shapes import Floor, WarmUp

NEARLY = 1 - 1e-9  # shares are sums of floats: a step that is this near to a border is at the border


def rewarmed(
    step: int, progress: float, share: float, *, warmup: float, start: float, floor: float, decay: float
) -> float:
    """The factor of the peak rate; the arguments are those of `Schedule.factor` and the fields of `Rewarm`.

    Raises:
        UserError: the warm-up is not shorter than the budget, or the decay ends before it.
    """
    if warmup >= 1:
        length, done = warmup * share, (step + 1) / warmup
        if length >= NEARLY:
            raise UserError(f"train.schedule.warmup: {warmup:g} steps are not fewer than the budget's {1 / share:.0f}")
    else:
        length = round(warmup / share) * share if share else warmup  # whole steps
        done = (progress + share) / length if length else math.inf
    if length > decay:
        raise UserError(
            f"train.schedule.decay: {decay:g} of the budget ends before the warm-up, which takes {length:g}"
        )
    warming = step < warmup if warmup >= 1 else progress < length * NEARLY
    if warming:
        return start + (1 - start) * (1.0 if done > NEARLY else done)
    t = (progress - length) / (decay - length) if decay > length else 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, t))))


def rewarm_cosine(
    optimizer: torch.optim.Optimizer,
    total_steps: int,
    *,
    warmup: float = 0.01,
    start: float = 0.0,
    floor: float = 0.1,
    decay_steps: int | None = None,
) -> LambdaLR:
    """Re-warming for any training loop: call `step()` after each optimizer step. Every parameter group's peak is the
    rate that it has now; groups keep their ratios.

    Args:
        warmup: a share of `total_steps` (below 1) or a number of steps.
        start, floor: the rate before the warm-up and at the end, as shares of the peak.
        decay_steps: the step at which the floor is reached; default: `total_steps`.

    Raises:
        ValueError: a setting out of its range, or settings that do not fit each other.
    """
    if total_steps <= 0:
        raise ValueError(f"total_steps must be above 0, found {total_steps}")
    decay = 1.0 if decay_steps is None else decay_steps / total_steps
    part = Rewarm(warmup=warmup, start=start, floor=floor, decay=decay)
    try:
        return LambdaLR(optimizer, lambda step: part.factor(step, step / total_steps, 1 / total_steps))
    except UserError as error:
        raise ValueError(str(error)) from error


class Rewarm(Schedule):
    """Re-warming cosine: linear warm-up from `start` to the peak, half a cosine to `floor`."""

    type: Literal["rewarm"] = "rewarm"
    warmup: WarmUp = 0.01
    start: Annotated[
        float, Field(ge=0, le=1, description="The factor before the first step, as a share of the peak.")
    ] = 0.0
    floor: Floor = 0.1
    decay: Annotated[
        float, Field(gt=0, le=1, description="The share of the budget after which the floor is reached.")
    ] = 1.0

    @model_validator(mode="after")
    def _fits(self) -> Rewarm:
        if self.warmup < 1 and self.warmup > self.decay:
            raise ValueError(f"decay {self.decay:g} ends before the warm-up, which takes {self.warmup:g} of the budget")
        return self

    def factor(self, step: int, progress: float, share: float = 0.0) -> float:
        return rewarmed(step, progress, share, warmup=self.warmup, start=self.start, floor=self.floor, decay=self.decay)
