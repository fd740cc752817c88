"""The learning-curve forecaster: trend, trace, backbone, prediction level, anchors, stopping.

In somebody's own loop: measure after each growing prefix, ask, and stop when little is left::

    >>> from warmstart.forecast import Curve, NotYet
    >>> from warmstart.forecast.learning_curve import LearningCurve
    >>> forecaster = LearningCurve()
    >>> accuracy = lambda words: 97.2 - 160 * words**-0.42       # train and test here
    >>> words, measured = [], []
    >>> for step in range(1, 200):
    ...     words.append(5000 * step)
    ...     measured.append(accuracy(words[-1]))
    ...     if step < 3:
    ...         continue
    ...     curve = Curve.of(words, measured)
    ...     forecast = forecaster.forecast(curve, at=1_000_000)
    ...     if not isinstance(forecast, NotYet) and forecaster.trend(curve).left(words[-1]) <= 2.0:
    ...         break
    >>> step, round(forecast.value, 2), round(accuracy(1_000_000), 2)
    (8, 96.72, 96.72)
    >>> round(forecaster.trend(curve).data_needed(96.5))
    413732

Source: arXiv 2402.02515. Idea and rules: `families.py` (the fit) and `trace.py` (when it may be believed).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.forecast import CEILING, FEWEST, Curve, Forecaster, NotYet, Prediction, checked_amount
from warmstart.forecast.bootstrap import interval, replicates
from warmstart.forecast.families import POWER, Family, Trend, values_at
from warmstart.forecast.trace import CALM, LOOK_AHEAD, MIN_POINTS, Trace, anchored, stopping_level, trace


class Fitted(Forecaster):
    """A forecaster that fits a family of curves to what was measured."""

    family: ClassVar[Family]
    min_points: Annotated[int, Field(ge=FEWEST, description="No forecast from fewer points.")] = MIN_POINTS

    def trend(self, curve: Curve) -> Trend:
        """The fitted curve itself, whether or not it may be believed."""
        raise NotImplementedError

    def missing(self, curve: Curve) -> str:
        """Why there is no forecast yet; empty where there is one."""
        return f"{curve.levels} points of {self.min_points}" if curve.levels < self.min_points else ""

    def forecast(self, curve: Curve, at: float, *, seed: int = 0) -> Prediction | NotYet:
        at = checked_amount(at)
        missing = self.missing(curve)
        if missing:
            return NotYet(missing, curve.levels)
        trend = self.trend(curve)
        value = float(trend.at(at))
        values, noise = replicates(curve, trend.at(curve.x), self.draws, seed)
        sample = self.expected(curve, values, np.array([at]))[:, 0] + noise
        low, high = interval(value, sample, self.confidence, CEILING.get(curve.kind, np.inf))
        return Prediction(value, low, high, at, curve.levels, trend.limit)


class LearningCurve(Fitted):
    """A bounded power curve, believed once its asymptote has calmed down (arXiv 2402.02515)."""

    type: Literal["learning-curve"] = "learning-curve"
    family: ClassVar[Family] = POWER
    calm: Annotated[
        float,
        Field(gt=0, description="Largest step of a calm asymptote: a share of the ceiling, or of the largest loss."),
    ] = CALM
    look_ahead: Annotated[int, Field(ge=1, description="So many steps must be calm.")] = LOOK_AHEAD
    anchor_weight: Annotated[
        float, Field(ge=0, description="Of the asymptote before, as an observation at infinity; 0: no anchors.")
    ] = 1.0

    def trace(self, curve: Curve) -> Trace:
        """All trends of a curve, and the levels from which they may be believed."""
        return _trace(self, curve)

    def trend(self, curve: Curve) -> Trend:
        return self.trace(curve).trends[-1]

    def missing(self, curve: Curve) -> str:
        few = super().missing(curve)
        if few:
            return few
        found = self.trace(curve)
        if found.known_from is not None:
            return ""
        limit = found.trends[-1].c
        if found.working is None:
            return f"the asymptote (now {limit:.4g}) has not been calm for {self.look_ahead} steps"
        return f"the asymptote is {limit:.4g}, which is impossible"

    def expected(self, curve: Curve, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        found = anchored(curve, values, self.family, self.trace(curve).working, self.anchor_weight)
        return values_at(curve, found, self.family, at)

    def stop_level(self, curve: Curve, tolerance: float) -> int | None:
        return stopping_level(self.trace(curve), curve, tolerance)


@lru_cache(maxsize=64)
def _trace(part: LearningCurve, curve: Curve) -> Trace:
    """A forecast asks for the trace of one curve several times."""
    return trace(
        curve,
        part.family,
        anchor_weight=part.anchor_weight,
        calm=part.calm,
        look_ahead=part.look_ahead,
        min_points=part.min_points,
    )
