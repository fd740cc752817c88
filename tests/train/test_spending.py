"""What a stage has spent of its budget, alone and in a chain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.recipe_stage import Budget
from warmstart.train.chain import Chain
from warmstart.train.spending import Counts, Spending

ALONE = Chain(0, False, 100.0, 100.0, False, 0.0, 100.0)
SECOND = Chain(0, True, 100.0, 150.0, True, 0.0, 100.0)


def test_counts_add_up() -> None:
    assert Counts(1, 2, 3, 4.0, 5.0, 6.0) + Counts(10, 20, 30, 40.0, 50.0, 60.0) == Counts(11, 22, 33, 44.0, 55.0, 66.0)


@pytest.mark.parametrize("unit", ["steps", "tokens", "flops"])
def test_a_step_is_afforded_to_the_last_bit(unit: str) -> None:
    spending = Spending(Budget.model_validate({unit: 100}), ALONE)
    name = "step" if unit == "steps" else unit
    setattr(spending.counts, name, 99)
    assert spending.affords(1.0, 1)
    setattr(spending.counts, name, 100)
    assert not spending.affords(1.0, 1)
    assert spending.fraction() == 1


def test_seconds_are_spent_until_they_are_over() -> None:
    spending = Spending(Budget.model_validate({"seconds": 100}), ALONE)
    spending.counts.seconds = 99.9
    assert spending.affords(1e30, 10**9)
    spending.counts.seconds = 100.0
    assert not spending.affords(0.0, 0)


def test_the_schedule_begins_after_the_trials_but_the_budget_pays_them() -> None:
    spending = Spending(Budget.model_validate({"flops": 100}), ALONE, spent=20.0)
    assert spending.progress() == 0
    spending.counts.flops = 60.0
    assert spending.progress() == 0.5
    assert spending.share_of_step(8.0, 0) == pytest.approx(0.1)
    assert spending.affords(40.0, 0)
    assert not spending.affords(41.0, 0)


def test_a_stage_that_carries_on_counts_from_the_beginning_of_its_chain() -> None:
    first = Spending(Budget.model_validate({"tokens": 60}), ALONE)
    first.counts.tokens, first.counts.step = 60, 6
    second = Spending(Budget.model_validate({"tokens": 40}), SECOND)
    second.take_over(first.state_dict())
    assert (second.step, second.fraction(), second.progress()) == (6, 0.0, pytest.approx(0.4))
    second.counts.tokens, second.counts.step = 20, 2
    assert (second.step, second.fraction(), second.progress()) == (8, pytest.approx(0.5), pytest.approx(80 / 150))


@given(st.integers(0, 100), st.integers(0, 10**6), st.floats(0, 1e15), st.floats(0, 50))
def test_its_state_is_whole(step: int, tokens: int, flops: float, spent: float) -> None:
    one = Spending(Budget.model_validate({"flops": 1e15}), ALONE, spent)
    one.counts.step, one.counts.tokens, one.counts.flops = step, tokens, flops
    two = Spending(Budget.model_validate({"flops": 1e15}), ALONE)
    two.load_state_dict(one.state_dict())
    assert (two.counts, two.before, two.progress()) == (one.counts, one.before, one.progress())
