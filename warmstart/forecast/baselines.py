"""What a learning-curve forecast has to beat: the last value, and plain fits of two other families.

The plain fits have no notion of being believable: from `min_points` on they say what their curve says.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np

from warmstart.forecast import CEILING, FEWEST, Curve, Forecaster, NotYet, Prediction, checked_amount
from warmstart.forecast.families import (
    EXPONENTIAL,
    LOGARITHMIC,
    Family,
    Trend,
    coefficients,
    fit,
    fit_prefixes,
    values_at,
)
from warmstart.forecast.learning_curve import Fitted
from warmstart.verdict import student_t_quantile

RECENT = 8


class LastValue(Forecaster):
    """Nothing more is gained. Its interval is the noise of the last steps: it knows nothing of what is to come."""

    type: Literal["last-value"] = "last-value"

    def forecast(self, curve: Curve, at: float, *, seed: int = 0) -> Prediction | NotYet:
        at, value = checked_amount(at), float(curve.mean[-1])
        steps = np.diff(curve.mean[-RECENT:])
        half = student_t_quantile((1 + self.confidence) / 2, len(steps) - 1) * float(steps.std(ddof=1))
        high = min(CEILING.get(curve.kind, math.inf), value + half)
        return Prediction(value, max(0.0, value - half), high, at, curve.levels, value)

    def expected(self, curve: Curve, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.repeat(values[:, -1:], len(at), axis=1)

    def stop_level(self, curve: Curve, tolerance: float) -> int | None:
        """The first level whose step gained less than `tolerance`."""
        gains = curve.sign * np.diff(curve.mean)
        return next((step + 2 for step, gain in enumerate(gains) if gain < tolerance), None)


class _Plain(Fitted):
    def trend(self, curve: Curve) -> Trend:
        return fit(curve, self.family)

    def expected(self, curve: Curve, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        return values_at(curve, coefficients(curve, values, self.family), self.family, at)

    def stop_level(self, curve: Curve, tolerance: float) -> int | None:
        for level, trend in enumerate(fit_prefixes(curve, self.family), start=FEWEST):
            if level >= self.min_points and trend.left(float(curve.x[level - 1])) <= tolerance:
                return level
        return None


class Exponential(_Plain):
    """c - a exp(-b x): bounded, and sooner at its bound than a power curve."""

    type: Literal["exponential"] = "exponential"
    family: ClassVar[Family] = EXPONENTIAL


class Logarithmic(_Plain):
    """c + a log x: it never ends, so nothing is ever too little to be gained, and no stopping level."""

    type: Literal["logarithmic"] = "logarithmic"
    family: ClassVar[Family] = LOGARITHMIC
