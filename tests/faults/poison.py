"""A part that ruins chosen steps: the loss and its gradient become not a number, or many times what they are.

It is a penalty of the tests alone. A recipe may name it (`{type: poison, steps: [5]}`) in every process that has
imported this module; `python -m faults.command run RECIPE ...` is the command line with it.
"""

from __future__ import annotations

import os
from typing import Literal

import torch

from warmstart.objectives import Batch, Loss
from warmstart.train.penalties import Ground, Moment, Penalty, PenaltyState


class Poison(Penalty):
    """Multiplies the loss of chosen steps."""

    type: Literal["poison"] = "poison"
    steps: list[int]
    times: float | None = None
    """None: not a number."""
    rank: int | None = None
    """Only in this process."""

    def start(self, ground: Ground) -> PenaltyState:
        return _Poison(self)


class _Poison(PenaltyState):
    def __init__(self, settings: Poison) -> None:
        self.settings = settings

    def active(self, moment: Moment) -> bool:
        return moment.step in self.settings.steps

    def loss(self, batch: Batch, loss: Loss, moment: Moment) -> torch.Tensor | None:
        if self.settings.rank not in (None, int(os.environ.get("RANK", "0"))):
            return loss.total * 0
        return loss.total * (float("nan") if self.settings.times is None else self.settings.times - 1)
