"""The learning trace: the trend at every level, when it may be believed, and what it says is left to gain.

The trend of level l is the curve fitted to the first l points; the asymptotes of the trends are the *backbone*. Once
the backbone has calmed down (the *working level*) and says nothing impossible (the *prediction level*), trends predict,
and the distance between a trend's value and its asymptote bounds what more data can still bring. That gives a rule for
stopping with a tolerance of the user's.

The backbone is calm at level l if the next `look_ahead` steps change the asymptote by at most `calm` each; so the
working level w is known at level w + look_ahead and not before. The paper's form of the same, a verticality nu with a
slowdown sig, is calm = step * nu^(1 / sig) for a uniform step; it depends on the unit of the amounts, ours does not. A
trend at the bound of its fit stands still because it cannot move, and is never calm.

*Anchoring* puts the asymptote of the trend before into the fit as one more observation, at infinity. It makes the
backbone smoother and corrects nothing: an asymptote that is wrong early is locked in. It therefore begins only after
the working level.

Source: arXiv 2402.02515; the paper's body could not be read for the exact rules of the working level, the first anchor
and the stopping rule: these are our readings.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from warmstart.forecast import CEILING, FEWEST, Curve
from warmstart.forecast.families import POWER, Coefficients, Family, Trend, coefficients, fit, fit_prefixes

MIN_POINTS = 8
LOOK_AHEAD = 5
CALM = 0.001
"""Of the scale: 0.1 points of an accuracy in percent, a thousandth of the largest loss."""


@dataclass(frozen=True)
class Trace:
    """Trends of the levels 3 to `last`, and what follows from them.

    Attributes:
        trends: `trends[l - 3]` is that of level l; after the working level with anchors, where anchoring was asked for.
        working: the working level; None: not reached (or not known yet).
        prediction: the prediction level, likewise.
        known_from: the level at which the working level is known and a forecast may be given.
    """

    trends: list[Trend]
    working: int | None
    prediction: int | None
    known_from: int | None

    @property
    def last(self) -> int:
        return len(self.trends) + FEWEST - 1

    def at(self, level: int) -> Trend:
        """The trend of a level."""
        return self.trends[level - FEWEST]

    @property
    def backbone(self) -> list[float]:
        """The asymptotes of the trends."""
        return [trend.c for trend in self.trends]


def working_level(
    trends: Sequence[Trend], calm: float, look_ahead: int = LOOK_AHEAD, first: int = FEWEST
) -> int | None:
    """The first level from which the asymptote moves by at most `calm` in each of `look_ahead` steps.

    Args:
        trends: of the levels `first`, `first` + 1, ...
        calm: in the values' unit.
    """
    steps = [
        abs(after.c - before.c) <= calm and not (before.at_bound or after.at_bound)
        for before, after in itertools.pairwise(trends)
    ]
    for start in range(len(steps) - look_ahead + 1):
        if all(steps[start : start + look_ahead]):
            return start + first
    return None


def prediction_level(trends: Sequence[Trend], working: int | None, ceiling: float, first: int = FEWEST) -> int | None:
    """The first level from the working level on whose asymptote is possible."""
    if working is None:
        return None
    return next((n + first for n, t in enumerate(trends) if n + first >= working and t.c <= ceiling), None)


def trace(
    curve: Curve,
    family: Family = POWER,
    *,
    anchor_weight: float = 0.0,
    calm: float = CALM,
    look_ahead: int = LOOK_AHEAD,
    min_points: int = MIN_POINTS,
) -> Trace:
    """The learning trace of a curve (of the mean over its orders).

    Args:
        anchor_weight: of the anchor's residual; 0: no anchors.
        calm: of the backbone, as a share of the scale (see `CALM`).
        min_points: no forecast is known before this level.
    """
    found = fit_prefixes(curve, family)
    working = working_level(found, calm * scale(curve), look_ahead)
    if working is None:
        return Trace(found, None, None, None)
    if anchor_weight > 0:
        for level in range(working + 1, curve.levels + 1):
            before = found[level - FEWEST - 1].c
            found[level - FEWEST] = fit(curve.until(level), family, anchor=before, weight=anchor_weight)
    prediction = prediction_level(found, working, CEILING.get(curve.kind, np.inf))
    known = None if prediction is None else max(prediction, working + look_ahead, min_points)
    return Trace(found, working, prediction, known if known is not None and known <= curve.levels else None)


def scale(curve: Curve) -> float:
    """What shares of a curve's values are meant of: the ceiling of an accuracy, the largest loss."""
    return CEILING.get(curve.kind) or float(curve.mean.max())


def anchored(curve: Curve, values: np.ndarray, family: Family, working: int | None, weight: float) -> Coefficients:
    """The last trends of many curves, as `trace` makes them, anchors included.

    Args:
        values: (many, levels).
        working: the level after which anchoring begins; None: no anchors.
    """
    if working is None or weight == 0 or working >= curve.levels:
        return coefficients(curve, values, family)
    found = coefficients(curve.until(working), values[:, :working], family)
    for level in range(working + 1, curve.levels + 1):
        found = coefficients(curve.until(level), values[:, :level], family, curve.sign * found.c, weight)
    return found


def stopping_level(trace: Trace, curve: Curve, tolerance: float) -> int | None:
    """The first level at which a forecast is known and at most `tolerance` is left to gain; None: none so far."""
    if trace.known_from is None:
        return None
    levels = range(trace.known_from, trace.last + 1)
    return next((level for level in levels if trace.at(level).left(float(curve.x[level - 1])) <= tolerance), None)
