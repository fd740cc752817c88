"""Learning-rate schedules, by name. Pure functions of how far the stage is, so that they need no state."""

from __future__ import annotations

from warmstart.part import Part


class Schedule(Part, room="schedules"):
    """The contract of a schedule."""

    def factor(self, step: int, progress: float, share: float = 0.0) -> float:
        """What the peak learning rate is multiplied with.

        Args:
            step: optimizer steps done in this stage (since the beginning of the chain, where it carries on).
            progress: the share of the budget that is used, 0 to 1, in the budget's own unit (steps, tokens, FLOPs or
                seconds).
            share: the share of the budget that this step will use; 0 where that is not known (a budget in seconds).

        Raises:
            UserError: the settings do not fit the budget.
        """
        raise NotImplementedError
