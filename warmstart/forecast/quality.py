"""How good forecasts were: MAPE, DMR and RR, and which learner they would have chosen.

Source: arXiv 2402.02515; the definitions of DMR and RR are our readings of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from warmstart.errors import DataError
from warmstart.forecast import Prediction


def mape(observed: Sequence[float] | np.ndarray, predicted: Sequence[float] | np.ndarray) -> float:
    """Mean absolute percentage error over control levels, in percent of what was observed (which must not be 0)."""
    seen, said = _pair(observed, predicted)
    if not seen.all():
        raise DataError("mape: an observed value is 0, of which there is no percentage")
    return float(np.mean(100 * np.abs(seen - said) / np.abs(seen)))


def decision_reliability(
    observed: tuple[Sequence[float], Sequence[float]], predicted: tuple[Sequence[float], Sequence[float]]
) -> float:
    """DMR: the percentage of control levels at which the predicted order of two learners is the true one."""
    seen, other_seen = _pair(*observed)
    said, other_said = _pair(*predicted)
    _pair(seen, said)
    return float(100 * np.mean(np.sign(seen - other_seen) == np.sign(said - other_said)))


def robustness_rate(clean: Sequence[float], distorted: Sequence[float], tolerance: float) -> float:
    """RR: the percentage of forecasts that distorted observations move by at most `tolerance`."""
    before, after = _pair(clean, distorted)
    return float(100 * np.mean(np.abs(before - after) <= tolerance))


@dataclass(frozen=True)
class Ranking:
    """Learners from the best forecast to the worst.

    Attributes:
        order: names.
        clear: whether the first one's interval does not touch that of any other: only the winner need be finished.
    """

    order: list[str]
    clear: bool


def ranked(forecasts: Mapping[str, Prediction], better: Literal["lower", "higher"] = "higher") -> Ranking:
    """Learners (or settings) by what is predicted of them at the same amount.

    Raises:
        DataError: no forecasts, or forecasts of different amounts.
    """
    if not forecasts:
        raise DataError("ranked: there is no forecast")
    if len({forecast.at for forecast in forecasts.values()}) > 1:
        raise DataError("ranked: the forecasts are of different amounts")
    sign = -1.0 if better == "higher" else 1.0
    order = sorted(forecasts, key=lambda name: (sign * forecasts[name].value, name))
    best = forecasts[order[0]]
    others = [forecasts[name] for name in order[1:]]
    clear = all(best.low > other.high if better == "higher" else best.high < other.low for other in others)
    return Ranking(order, clear)


def _pair(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise DataError(f"expected as many values on both sides, found {first.size} and {second.size}")
    return first, second
