"""Gradients: what becomes of a step's gradient before the optimizer takes it.

The default leaves it as it is. A part of this room may change it in view of other gradients (of remembered rows, of
several losses); like a penalty it has a state that is saved and handed to the next stage.
"""

from __future__ import annotations

from typing import ClassVar

from warmstart.part import Part
from warmstart.train.penalties import Ground, PenaltyState


class GradientState(PenaltyState):
    """What a part of this room remembers: a penalty's hooks but `loss`; `before_update` is where gradients change."""


class Gradients(Part, room="gradients"):
    """The contract."""

    with_shares: ClassVar[bool] = False
    """Whether it works where every process has only its share of the weights (`train.shard`)."""

    def start(self, ground: Ground) -> GradientState:
        """The state at the beginning of a training."""
        raise NotImplementedError
