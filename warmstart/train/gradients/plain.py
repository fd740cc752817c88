"""The gradient as it is."""

from __future__ import annotations

from typing import ClassVar, Literal

from warmstart.train.gradients import Gradients, GradientState
from warmstart.train.penalties import Ground


class Plain(Gradients):
    """The optimizer takes the gradient of the whole loss, unchanged."""

    type: Literal["plain"] = "plain"
    with_shares: ClassVar[bool] = True

    def start(self, ground: Ground) -> GradientState:
        return GradientState()
