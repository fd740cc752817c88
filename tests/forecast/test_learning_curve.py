"""The forecaster: no number before it may be believed, then one with an interval."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from warmstart.errors import DataError
from warmstart.forecast import Curve, NotYet, Prediction, learning_curve
from warmstart.forecast.baselines import Exponential, LastValue, Logarithmic
from warmstart.forecast.bootstrap import replicates
from warmstart.forecast.learning_curve import LearningCurve
from warmstart.randomness import numpy_generator

X = np.arange(1, 161) * 5000.0
CLEAN = 97.2 - 11 * (X / 5000) ** -0.42
EVERY = [LearningCurve(draws=20), LearningCurve(anchor_weight=0), Exponential(), Logarithmic(), LastValue()]


def measured(seed: int, levels: int, noise: float = 0.08) -> Curve:
    return Curve.of(X[:levels], (CLEAN + numpy_generator(seed, "test").normal(0, noise, len(X)))[:levels])


def predicted(found: Prediction | NotYet) -> Prediction:
    assert isinstance(found, Prediction)
    return found


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(learning_curve).failed == 0


@pytest.mark.parametrize("levels", range(3, 30))
def test_there_is_no_number_before_it_may_be_believed(levels: int) -> None:
    curve = measured(0, levels)
    forecaster = LearningCurve(draws=20)
    found, known = forecaster.forecast(curve, X[-1]), forecaster.trace(curve).known_from
    if known is None:
        assert isinstance(found, NotYet)
        assert found.reason
        assert found.level == levels
    else:
        assert known <= levels
        assert predicted(found).low <= predicted(found).value <= predicted(found).high <= 100


def test_it_says_why_there_is_none() -> None:
    forecaster = LearningCurve()
    for curve, why in (
        (measured(0, 7), "7 points of 8"),
        (Curve.of(X[:12], np.linspace(20, 60, 12)), "has not been calm"),
        (Curve.of(X[:30], 103 - 30 * (X[:30] / 5000) ** -0.5), "the asymptote is 103, which is impossible"),
    ):
        found = forecaster.forecast(curve, X[-1])
        assert isinstance(found, NotYet)
        assert why in found.reason


@pytest.mark.parametrize("kind", ["accuracy", "share", "loss"])
def test_without_noise_the_forecast_is_exact(kind) -> None:
    values = {"accuracy": CLEAN, "share": CLEAN / 100, "loss": 100 - CLEAN}[kind]
    found = predicted(LearningCurve(draws=20).forecast(Curve.of(X[:20], values[:20], kind), X[-1]))
    assert found.value == pytest.approx(values[-1], rel=1e-6)
    assert found.high - found.low < 1e-6


def test_it_beats_the_last_value_on_the_toy_curve() -> None:
    """At level 30 of 160, noise of 0.08 points."""
    ours, last = [], []
    for seed in range(5):
        curve = measured(seed, 30)
        ours.append(abs(predicted(LearningCurve(calm=0.01, draws=20).forecast(curve, X[-1])).value - CLEAN[-1]))
        last.append(abs(predicted(LastValue().forecast(curve, X[-1])).value - CLEAN[-1]))
    assert np.mean(ours) < 0.2
    assert np.mean(last) > 1


@pytest.mark.parametrize("forecaster", EVERY, ids=lambda part: f"{part.name}-{getattr(part, 'anchor_weight', '')}")
def test_the_same_seed_gives_the_same_interval(forecaster) -> None:
    curve = measured(1, 40)
    first = predicted(forecaster.forecast(curve, X[-1], seed=5))
    again = predicted(forecaster.forecast(Curve.of(curve.x, curve.values), X[-1], seed=5))
    assert first == again
    if not isinstance(forecaster, LastValue):
        assert predicted(forecaster.forecast(curve, X[-1], seed=6)).low != first.low
    assert first.low < first.value < first.high
    wide = predicted(forecaster.model_copy(update={"confidence": 0.99}).forecast(curve, X[-1], seed=5))
    assert wide.high - wide.low > first.high - first.low


def test_the_interval_holds_the_end_about_as_often_as_it_says() -> None:
    """40 curves whose family is right: 95 % intervals of a new observation should miss two of them or so."""
    forecaster = LearningCurve(anchor_weight=0, draws=60, calm=0.01)
    held = 0
    for seed in range(40):
        truth = CLEAN[-1] + numpy_generator(seed, "truth").normal(0, 0.08)
        found = predicted(forecaster.forecast(measured(seed, 40), X[-1]))
        held += found.low <= truth <= found.high
    assert held >= 33


def test_several_orders_are_drawn_not_their_points() -> None:
    """Two sorts of orders, one point better than the other: the interval knows, residuals of the mean would not."""
    orders = np.stack([CLEAN[:40] + shift for shift in (-0.5, 0.5, -0.5, 0.5)])
    curve = Curve.of(X[:40], orders)
    forecaster = LearningCurve(draws=40)
    found = predicted(forecaster.forecast(curve, X[-1]))
    assert found.value == pytest.approx(CLEAN[-1], abs=1e-4)
    assert found.high - found.low > 0.5
    values, noise = replicates(curve, curve.mean, 50, 0)
    assert {round(float(shift), 6) for shift in (values - CLEAN[:40]).mean(1)} <= {-0.5, -0.25, 0, 0.25, 0.5}
    assert not noise.any()
    alone = predicted(forecaster.forecast(Curve.of(X[:40], orders.mean(0)), X[-1]))
    assert alone.high - alone.low < 0.01


def test_more_noise_more_doubt() -> None:
    widths = []
    for noise in (0.02, 0.1, 0.3):
        values = 50 + 5 * np.log(X[:40] / 5000) + numpy_generator(3, "test").normal(0, noise, 40)
        found = predicted(Logarithmic().forecast(Curve.of(X[:40], values), X[-1]))
        widths.append(found.high - found.low)
    assert widths == sorted(widths)
    assert widths[-1] > 5 * widths[0]


def test_a_constant_curve_is_forecast_as_it_is() -> None:
    found = predicted(LearningCurve(draws=20).forecast(Curve.of(X[:20], np.full(20, 88.5)), X[-1]))
    assert (found.value, found.low, found.high, found.limit) == (88.5, 88.5, 88.5, 88.5)


def test_the_last_value_and_its_rule() -> None:
    curve = Curve.of([1, 2, 3, 4, 5], [50, 60, 65, 67, 68])
    found = predicted(LastValue().forecast(curve, 100))
    assert found.value == 68
    assert found.low < 68 < found.high <= 100
    assert LastValue().stop_level(curve, 3) == 4  # the step to 67 gained 2
    assert LastValue().stop_level(curve, 0.5) is None
    losses = Curve.of([1, 2, 3], [5, 4, 3.9], "loss")
    assert LastValue().stop_level(losses, 0.5) == 3


def test_plain_families_answer_from_their_first_points_on() -> None:
    y = 90 - 30 * np.exp(-0.2 * np.arange(1, 21))
    curve = Curve.of(np.arange(1, 21), y)
    found = predicted(Exponential().forecast(curve, 100))
    assert found.value == pytest.approx(90, abs=1e-3)
    assert isinstance(Exponential().forecast(curve.until(7), 100), NotYet)
    left = 30 * np.exp(-0.2 * np.arange(1, 21))
    assert Exponential().stop_level(curve, float(left[11] + left[12]) / 2) == 13
    logs = Curve.of(np.arange(1, 21), 50 + 10 * np.log(np.arange(1, 21)))
    assert predicted(Logarithmic().forecast(logs, 100)).value == pytest.approx(50 + 10 * np.log(100))
    assert predicted(Logarithmic().forecast(logs, 100)).limit is None
    assert Logarithmic().stop_level(logs, 100) is None


@pytest.mark.parametrize("forecaster", EVERY[1:], ids=lambda part: part.name)
@pytest.mark.parametrize("at", [0, -5, float("nan"), float("inf")])
def test_a_forecast_is_of_some_amount(forecaster, at) -> None:
    with pytest.raises(DataError, match="an amount above 0"):
        forecaster.forecast(measured(0, 20), at)
