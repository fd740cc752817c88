"""Drawing at shares: whose turn, which row, and the state."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.mix import Stock
from warmstart.data.mix.drawing import Drawing, due
from warmstart.errors import DataError, StateError

shares_lists = st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(sum)


@given(parts=shares_lists, draws=st.integers(1, 300))
def test_every_source_is_within_one_of_its_share_after_every_draw(parts: list[int], draws: int) -> None:
    """Exactly: Tijdeman's bound is 1 - 1 / (2k - 2) for k sources."""
    shares = [part / sum(parts) for part in parts]
    drawn = [0] * len(parts)
    bound = 1 - 1 / max(2 * sum(part > 0 for part in parts) - 2, 2)
    for turn in range(1, draws + 1):
        drawn[due(shares, drawn)] += 1
        assert all(abs(share * turn - times) <= bound + 1e-6 for share, times in zip(shares, drawn, strict=True))
        assert all(times == 0 for share, times in zip(shares, drawn, strict=True) if share == 0)


@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4), draws=st.integers(0, 120), seed=st.integers(0, 99))
def test_no_row_comes_again_before_its_epoch_ends(sizes: list[int], draws: int, seed: int) -> None:
    state = Drawing(Stock(sizes), np.full(len(sizes), 1 / len(sizes)), seed=seed)
    rows = state.next(draws)
    counts = Counter(rows)
    for source, size in enumerate(sizes):
        of_source = [row for s, row in rows if s == source]
        for start in range(0, len(of_source), size):
            epoch = of_source[start : start + size]
            assert len(set(epoch)) == len(epoch)
        times = [counts[source, row] for row in range(size)]
        assert max(times) - min(times) <= 1


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    state = Drawing(Stock([20]), np.ones(1), seed=1)
    first, second = state.next(20), state.next(20)
    assert sorted(first) == sorted(second)
    assert first != second
    assert Drawing(Stock([20]), np.ones(1), seed=2).next(20) != first


def test_new_shares_hold_from_their_beginning() -> None:
    state = Drawing(Stock([100, 100]), np.array([0.9, 0.1]), seed=1)
    state.next(50)
    state.set_shares(np.array([0.1, 0.9]))
    counts = Counter(source for source, _ in state.next(50))
    assert counts == {0: 5, 1: 45}


def test_a_dry_source_repeats_and_says_so_or_raises() -> None:
    stock, shares = Stock([4, 100], ["small", "large"]), np.array([0.5, 0.5])
    repeating = Drawing(stock, shares, seed=1)
    repeating.next(40)
    report = repeating.report()
    assert report == {"mix/small": 0.5, "mix/large": 0.5, "epochs/small": 5.0, "epochs/large": 0.2}
    strict = Drawing(stock, shares, seed=1, when_dry="raise")
    strict.next(8)
    with pytest.raises(DataError, match="source 'small' has run dry: all its 4 rows"):
        strict.next(2)
    done = Drawing(stock, shares, seed=1, when_dry="raise")
    done.next(8)
    done.next(2, progress=1.0)  # the step that only finds that the budget is used


def test_a_share_of_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="source 'b' has no rows"):
        Drawing(Stock([3, 0], ["a", "b"]), np.array([0.5, 0.5]), seed=1)
    assert {source for source, _ in Drawing(Stock([3, 0]), np.array([1.0, 0.0]), seed=1).next(9)} == {0}


@pytest.mark.parametrize(
    "broken", [{}, {"places": [1]}, {"places": [1, -1], "since": [0, 0]}, {"places": [1, True], "since": [0, 0]}]
)
def test_a_broken_state_is_refused(broken: dict) -> None:
    with pytest.raises(StateError, match="whole numbers"):
        Drawing(Stock([3, 3]), np.array([0.5, 0.5]), seed=1).load_state_dict(broken)


def test_a_state_is_small_and_plain() -> None:
    state = Drawing(Stock([10**9, 10**9]), np.array([0.3, 0.7]), seed=1)
    state.next(100)
    assert json.loads(json.dumps(state.state_dict())) == {"places": [30, 70], "since": [30, 70]}
