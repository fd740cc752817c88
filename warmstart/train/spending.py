"""What a stage may spend and has spent: steps, tokens, FLOPs, seconds, and how far along that is.

A budget has one unit. A stage may stand in a chain of stages that carry on one training; then amounts count from the
chain's beginning, and the learning-rate schedule goes by the whole chain (`warmstart/train/chain.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmstart.recipe_stage import Budget
    from warmstart.train.chain import Chain


@dataclass
class Counts:
    """What a stage has used so far: optimizer steps, tokens computed (with padding), those of them that are real, FLOPs
    (all processes), those FLOPs of weights held at zero (within `flops` where they count) and seconds of training."""

    step: int = 0
    tokens: int = 0
    real_tokens: int = 0
    flops: float = 0.0
    zero_flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


class Spending:
    """The budget of a stage and what is used of it.

    Attributes:
        counts: what this stage has used.
        before: what the stages of the chain before it used.

    Args:
        spent: FLOPs before the first step: of trials, and of what the stage before computed for this one. They count in
            the budget, but the schedule begins after those of the chain's first stage.
    """

    def __init__(self, budget: Budget, chain: Chain, spent: float = 0.0) -> None:
        self.budget, self.chain = budget, chain
        self.counts, self.before = Counts(flops=spent), Counts()
        self._spent_first = 0.0 if chain.carries_on else spent

    @property
    def step(self) -> int:
        """Optimizer steps since the beginning of the chain."""
        return self.before.step + self.counts.step

    def fraction(self) -> float:
        """The share of this stage's budget that is used, 0 to 1."""
        return self.share(self._of(self.before), self.chain.end)

    def progress(self) -> float:
        """The share of the whole chain's budget that is used, 0 to 1: what the schedule goes by."""
        return self.share(0.0, self.chain.total)

    def rows_progress(self) -> float:
        """The share of the stretch of stages with these same data that is used: what a mix goes by."""
        return self.share(self.chain.rows_begin, self.chain.rows_end)

    def share(self, begin: float, end: float) -> float:
        """How far the training is between two amounts of the budget's unit, counted from the chain's beginning."""
        begin = self._begin(begin)
        return min(1.0, max(0.0, (self._used - begin) / (end - begin))) if end > begin else 1.0

    def share_of_step(self, flops: float, tokens: int) -> float:
        """The share of the whole chain's budget that a step takes."""
        return self._step_uses(flops, tokens) / (self.chain.total - self._begin(0.0))

    def affords(self, flops: float, tokens: int) -> bool:
        """Whether the budget reaches for a step; of a budget in seconds, whether there is anything left."""
        if self.budget.unit == "seconds":
            return self._used < self.chain.end
        return self._used + self._step_uses(flops, tokens) <= self.chain.end * (1 + 1e-9)

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"counts": asdict(self.counts), "before": asdict(self.before), "spent_first": self._spent_first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts, self.before = Counts(**state["counts"]), Counts(**state.get("before", {}))
        self._spent_first = state.get("spent_first", 0.0)

    def take_over(self, state: dict[str, Any]) -> None:
        """Goes on from the state of the stage before, which was the last to train."""
        self.before = Counts(**state["before"]) + Counts(**state["counts"])
        self._spent_first = state["spent_first"]

    @property
    def _used(self) -> float:
        return self._of(self.before) + self._of(self.counts)

    def _of(self, counts: Counts) -> float:
        unit = self.budget.unit
        return getattr(counts, "step" if unit == "steps" else unit)

    def _begin(self, amount: float) -> float:
        """Training begins, and the schedule with it, after the trials."""
        return max(amount, self._spent_first) if self.budget.unit == "flops" else amount

    def _step_uses(self, flops: float, tokens: int) -> float:
        """What a step takes of the budget; 0 of one in seconds, which cannot be known."""
        return {"steps": 1, "tokens": tokens, "flops": flops, "seconds": 0.0}[self.budget.unit]
