"""What curves say, on curves whose answers are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.evaluate.curves import bump, crossover_step, forgetting

losses = st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=12)


def test_forgetting_is_final_minus_initial() -> None:
    assert forgetting([3.0, 5.0, 3.5]) == 0.5
    assert forgetting([3.0, 2.0]) == -1.0
    assert forgetting([3.0]) == 0.0


def test_bump_looks_at_the_beginning_alone() -> None:
    curve = [3.0, 3.4, *[3.0] * 60, 9.0]
    assert bump(curve) == pytest.approx(0.4)
    assert bump([3.0, 2.0, 1.0]) == 0.0
    assert bump([3.0, 2.0, 4.0], share=1.0) == 1.0


def test_where_curves_cross() -> None:
    assert crossover_step([5, 4, 3, 1], [4, 3, 3, 2]) == 3
    assert crossover_step([5, 2, 3, 1, 0], [4, 3, 3, 2, 2]) == 3, "the last crossing: before it both were in front"
    assert crossover_step([5, 4], [4, 3]) is None, "never"
    assert crossover_step([1, 1], [2, 2]) is None, "always below: nothing is crossed"
    assert crossover_step([5, 1, 5], [4, 3, 3]) is None, "not at the end"
    assert crossover_step([], []) is None


@given(losses)
def test_a_crossover_is_a_crossover(pairs: list[tuple[float, float]]) -> None:
    a, b = (list(curve) for curve in zip(*pairs, strict=True))
    step = crossover_step(a, b)
    if step is None:
        assert a[-1] >= b[-1] or all(x < y for x, y in pairs)
    else:
        assert a[step - 1] >= b[step - 1]
        assert all(x < y for x, y in pairs[step:])


def test_bad_curves() -> None:
    for question in (forgetting, bump):
        with pytest.raises(ValueError, match="no values"):
            question([])
    with pytest.raises(ValueError, match="equally long"):
        crossover_step([1.0], [1.0, 2.0])
