"""Learning-rate schedules, by name. Pure functions of how far the stage is, so that they need no state."""

from __future__ import annotations

from warmstart.part import Part


class Schedule(Part, room="schedules"):
    """The contract of a schedule."""

    def factor(self, step: int, progress: float) -> float:
        """What the peak learning rate is multiplied with.

        Args:
            step: optimizer steps done in this stage.
            progress: the share of the stage's budget that is used, 0 to 1, in the budget's own unit (steps, tokens,
                FLOPs or seconds).
        """
        raise NotImplementedError
