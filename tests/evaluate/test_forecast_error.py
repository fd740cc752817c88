"""The evaluator that asks forecasters about the ends of real curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import GivenRows

from warmstart.data.sources.tagged_sentences import TaggedSentences
from warmstart.errors import DataError
from warmstart.evaluate import forecast_error
from warmstart.evaluate.forecast_error import ForecastError, first_believed, learning_curves, measured, robustness
from warmstart.forecast import Curve
from warmstart.forecast.baselines import LastValue
from warmstart.forecast.learning_curve import LearningCurve
from warmstart.recipe_data import Data

QUICK = LearningCurve(draws=20)
X = [10_000.0 * k for k in range(1, 31)]


def curve(a: float, b: float, c: float) -> tuple[list[float], list[float]]:
    return X, [c - a * (x / 10_000) ** -b for x in X]


def test_prefixes_are_whole_sentences_of_at_least_a_step() -> None:
    train = [(["w"] * length, ["t"] * length) for length in (3, 4, 5, 2, 9, 1)]
    found = learning_curves(train, [(["w"], ["t"])], ["unigram"], 5, 10)
    assert found["unigram"] == ([7.0, 12.0, 23.0], [100.0] * 3)
    assert learning_curves(train, [(["w"], ["t"])], ["unigram"], 5, 2)["unigram"][0] == [7.0, 12.0]


def test_curves_of_the_family_are_forecast_without_error() -> None:
    found = measured({"one": curve(20, 0.5, 95), "other": curve(30, 0.4, 97)}, QUICK, 0.5, 0)
    assert found["forecast/error"] < 1e-4
    assert found["forecast/mape"] < 1e-4
    assert found["forecast/order"] == 100
    assert found["forecast/held"] == 1
    assert found["forecast/believed"] == 1
    assert found["accuracy/one"] == curve(20, 0.5, 95)[1][-1]
    last = measured({"one": curve(20, 0.5, 95)}, LastValue(), 0.5, 0)
    level = round(last["forecast/data_share"] * 30)
    y = curve(20, 0.5, 95)[1]
    assert last["forecast/error"] == pytest.approx(100 * (y[-1] - y[level - 1]) / y[-1])
    assert last["forecast/error_5_later"] == pytest.approx(100 * (y[-1] - y[level + 4]) / y[-1])


def test_every_forecaster_is_asked_at_the_same_level() -> None:
    curves = {"one": curve(20, 0.5, 95)}
    shares = {
        measured(curves, part, 0.5, 0)["forecast/data_share"]
        for part in (LastValue(), LearningCurve(calm=0.5, draws=20))
    }
    assert len(shares) == 1


def test_stopping_says_how_much_was_used_and_missed() -> None:
    found = measured({"one": curve(20, 0.5, 95)}, QUICK, 5.0, 0)
    y, stop = curve(20, 0.5, 95)[1], 16  # 20 / sqrt(16) = 5
    assert found["forecast/stop_share"] == pytest.approx(stop / 30)
    assert found["forecast/stop_missed"] == pytest.approx(y[-1] - y[stop - 1])
    assert measured({"one": curve(20, 0.5, 95)}, QUICK, 0.5, 0)["forecast/stop_share"] == 1


def test_a_curve_that_is_not_believed_is_left_out_and_counted() -> None:
    straight = (X, [20 + 2.0 * k for k in range(30)])
    found = measured({"good": curve(20, 0.5, 95), "straight": straight}, QUICK, 0.5, 0)
    assert found["forecast/believed"] == 0.5
    assert found["forecast/error"] < 1e-4
    assert "forecast/order" not in found
    assert found["accuracy/straight"] == 78
    assert first_believed(Curve.of(*straight)) is None
    with pytest.raises(DataError, match="no curve is believed within 30 levels"):
        measured({"straight": straight}, QUICK, 0.5, 0)


def test_outliers_move_the_last_value_only_where_they_hit_it() -> None:
    known = Curve.of(*curve(20, 0.5, 95)).until(20)
    rate = robustness(LastValue(), known, X[-1], 0.4, seed=0)
    assert 50 <= rate < 100  # five of twenty points: the last one is hit in a quarter of the draws
    assert robustness(LastValue(), known, X[-1], 2.0, seed=0) == 100


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Data:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    source = TaggedSentences(size=900, vocabulary=100, tags=6)
    return Data(source=source, curate=[], split={"validation": 0.2})  # type: ignore[arg-type]


def evaluator(**settings: Any) -> ForecastError:
    fields = {"learners": ["unigram", "hidden-markov"], "step": 150, "levels": 30, "test_tokens": 400}
    return ForecastError.model_validate(fields | {"forecaster": QUICK} | settings)


def test_from_rows_to_numbers_and_again_from_the_cache(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluator().evaluate_rows(data)
    assert 0 < first["forecast/error"] < 5
    assert first["accuracy/unigram"] < first["accuracy/hidden-markov"]

    def never(*_: Any) -> Any:
        raise AssertionError("the curves are in the cache")

    other = evaluator(seed=1).evaluate_rows(data)
    assert other != first  # another order of the rows
    monkeypatch.setattr(forecast_error, "learning_curves", never)
    assert evaluator().evaluate_rows(data) == first
    last = evaluator(forecaster="last-value").evaluate_rows(data)
    assert last["accuracy/unigram"] == first["accuracy/unigram"]
    assert last["forecast/error"] != first["forecast/error"]


def test_no_held_out_sentence_is_learned_from(data: Data) -> None:
    train, test = evaluator(test_tokens=10**9)._sentences(data, None, None, None)
    assert len(train) + len(test) == 900
    assert not {" ".join(words) for words, _ in train} & {" ".join(words) for words, _ in test}
    assert np.mean([len(words) for words, _ in test]) > 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a b", "words": ["a", "b"], "tags": ["x"]}, "a row has 2 words and 1 tags"),
        ({"text": "a b", "words": ["a", "b"]}, "there is no column 'tags'"),
        ({"text": "a", "words": ["a"], "tags": ["x"]}, "no row on one side of the split"),
    ],
)
def test_rows_without_tags_are_told(data: Data, row: dict[str, Any], message: str) -> None:
    given = data.model_copy(update={"source": GivenRows(given=[row])})
    with pytest.raises(DataError, match=message):
        evaluator().evaluate_rows(given)
