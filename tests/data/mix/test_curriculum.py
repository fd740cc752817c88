"""Curricula: the line, the pacing, the passes."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.mix import Stock
from warmstart.data.mix.curriculum import Curriculum, available, in_line
from warmstart.errors import DataError

SCORES = [np.array([0.3, 0.1, 0.9]), np.array([0.2, 0.8])]
STOCK = Stock([3, 2], ["a", "b"], SCORES)
LINE = [(0, 1), (1, 0), (0, 0), (1, 1), (0, 2)]  # by score


def test_the_line_is_in_the_order_of_scores() -> None:
    ends = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert [ends[n] for n in in_line(STOCK, "easy-first")] == LINE
    assert [ends[n] for n in in_line(STOCK, "hard-first")] == LINE[::-1]


@pytest.mark.parametrize("pacing", ["linear", "root", "step"])
@given(progress=st.floats(0, 1), later=st.floats(0, 1), initial=st.floats(0.01, 1), until=st.floats(0.05, 1))
def test_the_pool_only_grows_from_its_beginning_to_everything(pacing, progress, later, initial, until) -> None:
    def at(moment: float) -> float:
        return available(pacing, moment, initial=initial, until=until)

    low, high = sorted((progress, later))
    assert at(0) == pytest.approx(initial)
    assert at(1) == pytest.approx(1)
    assert at(low) <= at(high) + 1e-12
    if high >= until:
        assert at(high) == pytest.approx(1)


def test_pacings_at_half_time() -> None:
    assert available("linear", 0.5, initial=0.2) == pytest.approx(0.6)
    assert available("root", 0.5, initial=0.2) == pytest.approx((0.2**2 + (1 - 0.2**2) / 2) ** 0.5)
    assert available("step", 0.5, initial=0.2, steps=5) == pytest.approx(0.2 + 0.8 * 2 / 4)


@pytest.mark.parametrize("order", ["easy-first", "hard-first"])
def test_only_the_pool_is_drawn_and_a_pass_repeats_nothing(order) -> None:
    scores = np.random.default_rng(1).permutation(100)
    mix = Curriculum(order=order, initial=0.1, until=1.0)
    state = mix.start(Stock([100], ["a"], [scores]), seed=1)
    rank = scores if order == "easy-first" else 99 - scores
    first = state.next(10, 0.0)
    assert sorted(rank[row] for _, row in first) == list(range(10))
    assert [rank[row] for _, row in first] != sorted(rank[row] for _, row in first), "shuffled"
    second = state.next(55, 0.5)
    assert sorted(rank[row] for _, row in second) == list(range(55))
    third = state.next(60, 0.6)
    assert all(rank[row] < 64 for _, row in third)
    assert max(Counter(third).values()) == 1
    assert state.report() == {"curriculum/pool": 0.64, "curriculum/passes": 3.0}


def test_at_the_end_every_row_comes_equally_often() -> None:
    state = Curriculum(initial=1.0).start(STOCK, seed=1)
    assert Counter(state.next(20)) == dict.fromkeys(LINE, 4)


def test_resume_in_the_middle_of_a_pass() -> None:
    mix = Curriculum(initial=0.5, until=0.9)
    whole = mix.start(STOCK, seed=4)
    rows = [whole.next(2, n / 20) for n in range(20)]
    for stop in range(20):
        part = mix.start(STOCK, seed=4)
        for n in range(stop):
            part.next(2, n / 20)
        again = mix.start(STOCK, seed=4)
        again.load_state_dict(json.loads(json.dumps(part.state_dict())))
        assert [again.next(2, n / 20) for n in range(stop, 20)] == rows[stop:]


def test_rows_without_scores_are_an_error() -> None:
    with pytest.raises(DataError, match="source 'b' has no scores"):
        Curriculum().start(Stock([3, 2], ["a", "b"], [SCORES[0], None]), seed=1)
    with pytest.raises(DataError, match="source 'a' has 1 rows without a score"):
        Curriculum().start(Stock([2], ["a"], [np.array([1.0, np.nan])]), seed=1)
    with pytest.raises(DataError, match="has no scores"):
        Curriculum().start(Stock([3], ["a"]), seed=1)
    with pytest.raises(DataError, match="no rows"):
        Curriculum().start(Stock([0], ["a"], [None]), seed=1)
