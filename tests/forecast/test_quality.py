"""MAPE, DMR, RR, and the choice of a learner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.errors import DataError
from warmstart.forecast import Prediction
from warmstart.forecast.quality import decision_reliability, mape, ranked, robustness_rate

VALUES = st.lists(st.floats(1, 100), min_size=1, max_size=9)


def test_mape_is_a_percentage_of_what_was_observed() -> None:
    assert mape([50, 100], [49, 104]) == pytest.approx((2 + 4) / 2)
    with pytest.raises(DataError, match="is 0"):
        mape([0, 1], [1, 1])
    with pytest.raises(DataError, match="as many values"):
        mape([1, 2], [1])


@given(VALUES, st.floats(0.01, 100))
def test_mape_knows_no_unit_and_a_perfect_forecast(values: list[float], factor: float) -> None:
    assert mape(values, values) == 0
    half = [value / 2 for value in values]
    assert mape(values, half) == pytest.approx(50)
    assert mape([factor * v for v in values], [factor * h for h in half]) == pytest.approx(50)


def test_dmr_counts_levels_with_the_right_order() -> None:
    seen = ([90.0, 91, 92, 93], [89.0, 91.5, 92, 94])
    assert decision_reliability(seen, seen) == 100
    assert decision_reliability(seen, ([90.0] * 4, [89.0] * 4)) == 25
    assert decision_reliability(seen, ([80.0] * 4, [89.0] * 4)) == 50
    with pytest.raises(DataError):
        decision_reliability(seen, ([90.0], [89.0]))


@given(VALUES)
def test_dmr_does_not_care_which_learner_comes_first(values: list[float]) -> None:
    other = list(reversed(values))
    said = [value + 1 for value in values]
    forwards = decision_reliability((values, other), (said, other))
    assert decision_reliability((other, values), (other, said)) == forwards


def test_rr_counts_forecasts_that_stay() -> None:
    assert robustness_rate([90, 90, 90, 90], [90, 90.5, 89.4, 95], 0.5) == 50


def prediction(value: float, half: float = 1.0, at: float = 10.0) -> Prediction:
    return Prediction(value, value - half, value + half, at, 8)


def test_learners_are_ranked_by_their_forecasts() -> None:
    found = ranked({"a": prediction(90), "b": prediction(95), "c": prediction(92)})
    assert found.order == ["b", "c", "a"]
    assert found.clear
    assert ranked({"a": prediction(2), "b": prediction(1)}, "lower").order == ["b", "a"]
    assert not ranked({"a": prediction(94.5), "b": prediction(95)}).clear
    assert ranked({"a": prediction(5, 0.1), "b": prediction(1, 0.1)}, "lower").clear
    with pytest.raises(DataError, match="different amounts"):
        ranked({"a": prediction(1), "b": prediction(2, at=20)})
    with pytest.raises(DataError, match="no forecast"):
        ranked({})
