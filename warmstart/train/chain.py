"""Stages that carry on one training: several data, one optimizer, one learning-rate schedule.

A stage with `carry_on: true` goes on where the stage before stopped: weights, the optimizer's moments and its step
counter, and one schedule that runs over the whole chain of stages joined in this way. Only the data change (the last
tenth without metadata headers, say; MeCo, arXiv 2501.01956, section 2). A stage cut in two this way is bit for bit the
stage that was not cut.

The price: the schedule of the first stage must know the budgets of the later ones, so a chain is planned as a whole;
and the first stage's saved state must still be there when the second one starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmstart.recipe_stage import Stage


@dataclass(frozen=True)
class Chain:
    """Where a stage stands in its chain; amounts are in the budget's unit and count from the chain's beginning.

    Attributes:
        first: the number of the chain's first stage, which is part of every random purpose.
        carries_on: the stage is not the first.
        end: the amount at which this stage ends.
        total: the amount at which the last stage ends.
        same_rows: the stage before has the same data, so that the order of the rows goes on as well.
        rows_begin, rows_end: the stretch of stages with these same data.
    """

    first: int
    carries_on: bool
    end: float
    total: float
    same_rows: bool
    rows_begin: float
    rows_end: float


def chain_of(stages: Sequence[Stage], number: int) -> Chain:
    """The chain of a recipe's stage. All stages have a budget, those of a chain in one unit."""
    first, last = number, number
    while stages[first].carry_on:
        first -= 1
    while last + 1 < len(stages) and stages[last + 1].carry_on:
        last += 1
    amounts = [stage.budget.amount if stage.budget is not None else 0.0 for stage in stages]
    rows_first, rows_last = number, number
    while rows_first > first and stages[rows_first - 1].data == stages[rows_first].data:
        rows_first -= 1
    while rows_last < last and stages[rows_last + 1].data == stages[rows_last].data:
        rows_last += 1
    return Chain(
        first=first,
        carries_on=number > first,
        end=sum(amounts[first : number + 1]),
        total=sum(amounts[first : last + 1]),
        same_rows=rows_first < number,
        rows_begin=sum(amounts[first:rows_first]),
        rows_end=sum(amounts[first : rows_last + 1]),
    )
