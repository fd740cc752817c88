"""The trace of trends: when it may be believed, when one can stop."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.forecast import Curve
from warmstart.forecast.families import POWER, Trend, coefficients, fit_prefixes
from warmstart.forecast.trace import anchored, prediction_level, stopping_level, trace, working_level
from warmstart.randomness import numpy_generator

X = np.arange(1, 41) * 5000.0
CLEAN = 97.2 - 11 * (X / 5000) ** -0.42


def with_noise(seed: int, noise: float = 0.08) -> Curve:
    return Curve.of(X, CLEAN + numpy_generator(seed, "test").normal(0, noise, len(X)))


def trend_of(c: float, at_bound: bool = False) -> Trend:
    return Trend(POWER, 1.0, 0.5, c, 1.0, 1.0, at_bound)


@settings(max_examples=15, deadline=None)
@given(a=st.floats(5, 40), b=st.floats(0.2, 1.5), c=st.floats(70, 99))
def test_what_is_left_to_gain_falls_from_level_to_level(a: float, b: float, c: float) -> None:
    curve = Curve.of(X[:12], c - a * (X[:12] / 5000) ** -b)
    left = [trend.left(curve.x[level]) for level, trend in enumerate(fit_prefixes(curve), start=2)]
    assert all(gap >= 0 for gap in left)
    assert all(after < before for before, after in itertools.pairwise(left))
    assert left == pytest.approx([a * (x / 5000) ** -b for x in curve.x[2:]], abs=1e-6 * a)


def test_the_working_level_is_the_first_calm_stretch() -> None:
    steps = [110, 99, 97, 96.95, 96.9, 96.92, 97.5, 97.5, 97.5, 97.5]
    found = [trend_of(c) for c in steps]
    assert working_level(found, 0.1, look_ahead=3) == 5  # 97 is the trend of level 5
    assert working_level(found, 0.1, look_ahead=4) is None
    assert working_level(found, 0.01, look_ahead=3) == 9
    assert working_level(found, 10, look_ahead=3) == 4  # 110 to 99 is more than 10
    assert working_level(found[:2], 100, look_ahead=2) is None


def test_a_trend_that_stands_still_at_its_bound_is_not_calm() -> None:
    """Clipping fakes convergence: six equal asymptotes of 200 say that nothing is known."""
    assert working_level([trend_of(200, at_bound=True)] * 6, 0.1) is None
    rising = Curve.of(X[:12], np.linspace(20, 60, 12))
    assert all(trend.at_bound for trend in fit_prefixes(rising))
    assert trace(rising).known_from is None


def test_the_prediction_level_is_the_first_possible_asymptote_from_the_working_level_on() -> None:
    found = [trend_of(c) for c in (99, 101, 100.5, 100, 99)]
    assert prediction_level(found, 4, 100) == 6
    assert prediction_level(found, 3, 100) == 3
    assert prediction_level(found, None, 100) is None
    assert prediction_level(found[:3], 4, 100) is None


def test_nothing_is_known_before_the_look_ahead_is_over() -> None:
    curve = Curve.of(X, CLEAN)
    found = trace(curve)
    assert (found.working, found.prediction, found.known_from) == (3, 3, 8)
    assert trace(curve.until(7)).known_from is None  # level 3 is calm over 3 to 8 only
    late = trace(curve, min_points=20)
    assert late.known_from == 20


def test_stopping_is_the_first_known_level_with_little_left() -> None:
    curve = Curve.of(X, CLEAN)
    found = trace(curve)
    left = {level: found.at(level).left(curve.x[level - 1]) for level in range(3, 41)}
    tolerance = (left[20] + left[21]) / 2
    assert stopping_level(found, curve, tolerance) == 21
    assert stopping_level(found, curve, 50) == found.known_from
    assert stopping_level(found, curve, 1e-9) is None
    assert stopping_level(trace(curve.until(6)), curve, 50) is None


@pytest.mark.parametrize("seed", range(3))
def test_anchors_begin_after_the_working_level_and_make_the_backbone_smoother(seed: int) -> None:
    curve = with_noise(seed)
    free, tied = trace(curve), trace(curve, anchor_weight=1.0)
    assert free.working == tied.working
    assert free.working is not None
    start = free.working - 3
    assert free.backbone[: start + 1] == tied.backbone[: start + 1]
    assert free.backbone[start + 1 :] != tied.backbone[start + 1 :]
    assert np.abs(np.diff(tied.backbone[start:])).mean() < np.abs(np.diff(free.backbone[start:])).mean()
    assert trace(curve, anchor_weight=0.0).backbone == free.backbone


def test_many_anchored_traces_at_once_are_the_one_by_one_traces() -> None:
    curve = with_noise(1).until(25)
    found = trace(curve, anchor_weight=1.0)
    many = anchored(curve, np.repeat(curve.mean[None], 3, axis=0), POWER, found.working, 1.0)
    assert many.c == pytest.approx([found.backbone[-1]] * 3, abs=1e-7)
    free = anchored(curve, curve.mean[None], POWER, None, 1.0)
    assert free.c == pytest.approx(coefficients(curve, curve.mean[None], POWER).c)


def test_calm_is_meant_of_the_scale() -> None:
    """The same curve in percent, as a share, and as a loss of any size is believed at the same level."""
    curve = with_noise(2)
    shares = Curve.of(X, curve.mean / 100, "share")
    assert trace(shares).known_from == trace(curve).known_from
    losses = 3 + 2 * (X / 5000) ** -0.5 + numpy_generator(0, "loss").normal(0, 0.01, len(X))
    small, large = Curve.of(X, losses, "loss"), Curve.of(X, 1000 * losses, "loss")
    assert trace(small).known_from == trace(large).known_from is not None
