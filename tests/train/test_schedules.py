"""Schedules as curves: where they begin and end, that they never jump, that decay decays."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.part import parts
from warmstart.train.schedules.shapes import Constant, Cosine, InverseSqrt, Linear, WarmupStableDecay

shares = st.floats(0, 1)
curves = st.one_of(
    st.builds(Cosine, warmup=st.floats(0, 0.5), floor=shares),
    st.builds(Linear, warmup=st.floats(0, 0.5), floor=shares),
    st.builds(
        WarmupStableDecay,
        warmup=st.floats(0, 0.5),
        floor=shares,
        decay=st.floats(0.1, 0.5),
        shape=st.sampled_from(["linear", "cosine", "sqrt"]),
    ),
)


@given(curves)
def test_curves(schedule: Cosine | Linear | WarmupStableDecay) -> None:
    grid = [schedule.factor(n, n / 500) for n in range(501)]
    assert all(0 <= f <= 1 for f in grid)
    assert grid[-1] == pytest.approx(schedule.floor)
    start = int(500 * schedule.warmup) + 1
    assert all(b <= a + 1e-12 for a, b in pairwise(grid[start:]))
    assert all(b >= a - 1e-12 for a, b in pairwise(grid[: start - 1])) or start < 3
    if schedule.warmup >= 0.05 and getattr(schedule, "shape", "") != "sqrt":
        assert max(abs(b - a) for a, b in pairwise(grid)) < 0.06


def test_warm_up_in_steps() -> None:
    schedule = Constant(warmup=4)
    assert [schedule.factor(n, 0.5) for n in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_no_step_is_wasted_at_rate_zero() -> None:
    assert Cosine(warmup=0.1).factor(0, 0.0) > 0


def test_stable_part_is_stable() -> None:
    schedule = WarmupStableDecay(warmup=0.1, decay=0.2)
    assert all(schedule.factor(0, p / 100) == 1 for p in range(10, 80))
    assert schedule.factor(0, 0.9) == pytest.approx(0.5)


def test_inverse_square_root() -> None:
    schedule = InverseSqrt(warmup=10)
    assert schedule.factor(9, 0) == 1
    assert schedule.factor(39, 0) == pytest.approx(0.5)


def test_all_are_found_by_name() -> None:
    assert {"constant", "cosine", "linear", "wsd", "inverse-sqrt"} <= set(parts("schedules"))
