"""Gaps of curves and relative updates, against cases that can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from warmstart.evaluate.stability import gap, relative_update


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_a_rising_curve_has_no_gap(steps: list[float]) -> None:
    values = [sum(steps[:n]) for n in range(len(steps))]
    found = gap(list(range(len(values))), values)
    assert (found.depth, found.recovery, found.area) == (0, 0, 0)


def test_a_dip_worked_out_by_hand() -> None:
    found = gap([0, 1, 2, 4, 5], [0.5, 0.3, 0.4, 0.5, 0.6])
    assert found.depth == pytest.approx(0.2)
    assert found.recovery == 4
    assert found.area == pytest.approx(0.1 + 0.15 + 0.1)


def test_no_recovery_and_a_second_dip() -> None:
    assert gap([0, 1], [1.0, 0.5]).recovery is None
    twice = gap([0, 1, 2, 3, 4], [1.0, 0.9, 1.0, 0.2, 1.1])
    assert twice.recovery == 4  # after the lowest point, not after the first dip
    assert twice.depth == pytest.approx(0.8)


def test_bad_curves() -> None:
    with pytest.raises(ValueError, match="at least two points"):
        gap([0], [1.0])
    with pytest.raises(ValueError, match="must rise"):
        gap([0, 0], [1.0, 1.0])


def test_relative_update() -> None:
    torch.manual_seed(0)
    start = {"a": torch.randn(30, 4), "b": torch.randn(7)}
    assert relative_update(start, start) == 0
    assert relative_update({n: t * 1.1 for n, t in start.items()}, start) == pytest.approx(0.1, rel=1e-5)
    start["a"][0, 0] = 0.0  # left out, not infinite
    moved = {"a": start["a"] + 0, "b": start["b"] * 3}
    moved["a"][0, 0] = 5.0
    assert relative_update(moved, start) == pytest.approx(2 * 7 / (30 * 4 - 1 + 7), rel=1e-5)
    with pytest.raises(ValueError, match="not the same tensors"):
        relative_update({"a": start["a"]}, start)
