"""The least-squares fit of a family of curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from warmstart.errors import DataError
from warmstart.forecast import Curve
from warmstart.forecast.families import EXPONENTIAL, LOGARITHMIC, POWER, coefficients, fit, fit_prefixes, values_at
from warmstart.randomness import numpy_generator

X = np.arange(1, 31) * 5000.0


def power(x: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return c - a * (x / 5000) ** -b


def noisy(seed: int, levels: int = 30, noise: float = 0.1) -> np.ndarray:
    generator = numpy_generator(seed, "test")
    a, b, c = generator.uniform([5, 0.1, 60], [40, 1.5, 99])
    return np.clip(power(X[:levels], a, b, c) + generator.normal(0, noise, levels), 0, 100)


@settings(max_examples=40, deadline=None)
@given(a=st.floats(2, 50), b=st.floats(0.1, 2), c=st.floats(55, 99), unit=st.sampled_from([1e-3, 1.0, 7.0]))
def test_three_points_of_the_family_give_it_back(a: float, b: float, c: float, unit: float) -> None:
    x = X[:3] * unit
    trend = fit(Curve.of(x, power(X[:3], a, b, c)))
    assert trend.c == pytest.approx(c, rel=1e-3)
    assert trend.b == pytest.approx(b, rel=1e-3)
    assert trend.a == pytest.approx(a * (5000 * unit) ** b, rel=1e-3)
    assert trend.left(x[-1]) == pytest.approx(a * 3**-b, abs=1e-6 * a)


@settings(max_examples=40, deadline=None)
@given(
    y=st.lists(st.floats(0, 100), min_size=3, max_size=12),
    gaps=st.lists(st.floats(0.01, 50), min_size=12, max_size=12),
    family=st.sampled_from([POWER, EXPONENTIAL, LOGARITHMIC]),
    kind=st.sampled_from(["accuracy", "loss"]),
)
def test_every_trend_goes_up_ever_less_and_never_past_its_limit(y, gaps, family, kind) -> None:
    """Whatever was measured; losses the other way round."""
    curve = Curve.of(np.cumsum(gaps[: len(y)]), y, kind)
    trend = fit(curve, family)
    places = np.geomspace(curve.x[0] / 10, curve.x[-1] * 10, 200)
    values = curve.sign * trend.at(places)
    slack = 1e-9 * (1 + np.abs(values).max())
    assert (np.diff(values) >= -slack).all()
    slopes = np.diff(values) / np.diff(places)
    assert (np.diff(slopes) <= 1e-9 * (1 + np.abs(slopes).max())).all()
    if trend.limit is not None:
        assert (values <= curve.sign * trend.limit + slack).all()
        assert all(trend.left(place) >= 0 for place in places)


@pytest.mark.parametrize("seed", range(6))
def test_no_trust_region_search_finds_a_better_fit(seed: int) -> None:
    y = noisy(seed)
    trend = fit(Curve.of(X, y))
    ours = float(((trend.at(X) - y) ** 2).sum())

    def residuals(p: np.ndarray) -> np.ndarray:
        return p[2] - p[0] * (X / X[0]) ** -p[1] - y

    generator = numpy_generator(seed, "starts")
    starts = generator.uniform([1, 0.05, 50], [50, 2, 150], (5, 3))
    bounds = ([0, 1e-3, 0], [np.inf, 5, 200])
    theirs = min(2 * least_squares(residuals, start, bounds=bounds, method="trf", xtol=1e-12).cost for start in starts)
    assert ours <= theirs * (1 + 1e-6)


@pytest.mark.parametrize("family", [POWER, EXPONENTIAL, LOGARITHMIC])
def test_the_unit_of_the_amounts_changes_nothing(family) -> None:
    y = noisy(3)
    one, other = fit(Curve.of(X, y), family), fit(Curve.of(X / 1000, y), family)
    assert other.c == pytest.approx(one.c, abs=1e-6)
    places = X[-1] * np.array([1.0, 2.0, 10.0])
    assert other.at(places / 1000) == pytest.approx(one.at(places), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 40), share=st.floats(0.05, 0.9), family=st.sampled_from([POWER, EXPONENTIAL, LOGARITHMIC]))
def test_data_needed_is_the_inverse_of_the_trend(seed: int, share: float, family) -> None:
    trend = fit(Curve.of(X, noisy(seed)), family)
    start = float(trend.at(X[0]))
    end = trend.limit if trend.limit is not None else start + 10
    goal = start + share * (end - start)
    needed = trend.data_needed(goal)
    assume(needed is not None)
    assert float(trend.at(needed)) == pytest.approx(goal, abs=1e-8)


def test_a_goal_at_or_past_the_limit_is_never_reached() -> None:
    trend = fit(Curve.of(X, power(X, 20, 0.5, 95)))
    assert trend.data_needed(trend.c) is None
    assert trend.data_needed(99) is None
    losses = fit(Curve.of(X, 2 + 3 * (X / 5000) ** -0.4, "loss"))
    assert losses.data_needed(1.9) is None
    assert losses.data_needed(2.5) == pytest.approx(5000 * 6**2.5, rel=1e-6)
    slow = fit(Curve.of(X, 90 - 5 * (X / 5000) ** -0.002))
    assert slow.data_needed(slow.c - 1e-9) is None  # more than a float can hold


def test_a_constant_curve_has_nothing_to_gain() -> None:
    trend = fit(Curve.of(X, np.full(30, 91.3)))
    assert (trend.c, trend.a, trend.left(1.0)) == (91.3, 0.0, 0.0)
    assert trend.data_needed(91.3) is None
    assert trend.data_needed(80) == 0


@pytest.mark.parametrize("seed", range(4))
def test_an_anchor_at_the_asymptote_changes_nothing_and_a_heavy_one_decides(seed: int) -> None:
    curve = Curve.of(X, noisy(seed))
    free = fit(curve)
    same = fit(curve, anchor=free.c)
    assert (same.a, same.b, same.c) == pytest.approx((free.a, free.b, free.c), rel=1e-5)
    for anchor in (free.c + 2, free.c - 1):
        assert fit(curve, anchor=anchor, weight=1e5).c == pytest.approx(anchor, abs=1e-6)
        light = fit(curve, anchor=anchor, weight=1e-5).c
        assert light == pytest.approx(free.c, abs=1e-4)


def test_a_loss_is_a_mirrored_accuracy_with_its_own_bounds() -> None:
    losses = 3 + 4 * (X / 5000) ** -0.3
    trend = fit(Curve.of(X, losses, "loss"))
    assert (trend.c, trend.b) == pytest.approx((3, 0.3), rel=1e-6)
    assert fit(Curve.of(X, 5 * (X / 5000) ** -0.3, "loss")).c == pytest.approx(0, abs=1e-6)


def test_an_impossible_asymptote_is_not_clipped() -> None:
    trend = fit(Curve.of(X, 20 + 60 * np.log(X / 5000) / np.log(30)))
    assert trend.c > 100


@pytest.mark.parametrize("kind", ["accuracy", "loss"])
@pytest.mark.parametrize("family", [POWER, EXPONENTIAL, LOGARITHMIC])
def test_the_trends_of_all_prefixes_know_nothing_of_the_future(family, kind) -> None:
    y = noisy(1) if kind == "accuracy" else 110 - noisy(1)
    curve = Curve.of(X, y, kind)
    places = np.array([1e5, 1e6])
    for level, trend in enumerate(fit_prefixes(curve, family), start=3):
        alone = fit(curve.until(level), family)
        assert trend.at(places) == pytest.approx(alone.at(places), rel=1e-6)
        assert trend.at_bound == alone.at_bound


def test_many_curves_at_once_are_fitted_like_one_by_one() -> None:
    curve = Curve.of(X, noisy(0))
    many = np.stack([noisy(seed) for seed in range(5)])
    found = values_at(curve, coefficients(curve, many, POWER), POWER, np.array([1e6, 2e6]))
    alone = [fit(Curve.of(X, row)).at(np.array([1e6, 2e6])) for row in many]
    assert found == pytest.approx(np.stack(alone), abs=1e-7)


WRONG = [
    ([1, 2], [50, 60], "accuracy", "at least 3 points, found 2"),
    ([1, 3, 2], [50, 60, 70], "accuracy", "must rise; number 3 is 2 after 3"),
    ([1, 2, 2], [50, 60, 70], "accuracy", "must rise; number 3 is 2 after 2"),
    ([0, 1, 2], [50, 60, 70], "accuracy", "above 0, found 0"),
    ([1, 2, 3], [50, 60, 101], "accuracy", "must be from 0 to 100, found 101"),
    ([1, 2, 3], [-1, 60, 70], "accuracy", "must be from 0 to 100, found -1"),
    ([1, 2, 3], [0.5, 0.6, 70], "share", "must be from 0 to 1, found 70"),
    ([1, 2, 3], [3, 2, -1], "loss", "must be 0 or more, found -1"),
    ([1, 2, 3], [3, 2, float("nan")], "loss", "finite"),
    ([1, 2, 3], [3, 2], "loss", "as many values as amounts"),
]


@pytest.mark.parametrize(("x", "y", "kind", "message"), WRONG)
def test_what_is_no_curve_is_told_in_one_line(x, y, kind, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Curve.of(x, y, kind)
    assert "\n" not in str(caught.value)


def test_losses_above_100_are_losses() -> None:
    assert Curve.of([1, 2, 3], [300, 200, 150], "loss").levels == 3
