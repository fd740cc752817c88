"""Families of curves, and the least-squares fit of one: `c - a z(x)` where z falls with x at a rate b.

    power        z = x^(-b)          c is the limit, a x^(-b) what is left to gain
    exponential  z = exp(-b x)       likewise
    logarithmic  z = -log x          no limit, no b

For a given b the best a and c are a linear problem, so the fit is a search along b alone: a fixed grid, then a golden
section around its best point. That finds the minimum of the sum of squares that a trust-region search from many random
starts looks for, needs no starts, and takes many curves at once (the bootstrap). The price: a minimum that is narrower
than the grid can be missed. Bounds: a >= 0 (nothing is lost by more data), b as below, c within [0, twice the ceiling]
for accuracies and [0, the largest loss] for losses. An impossible c above the ceiling is kept: it says that the curve
says little yet.

Amounts are divided by the first one, so their unit changes neither the limit nor any forecast.

Source: steps 2 and 3 of "Modeling of learning curves with applications to POS tagging" (arXiv 2402.02515).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from warmstart.forecast import CEILING, FEWEST, Curve

GRID = 32
GOLDEN = (math.sqrt(5) - 1) / 2
STEPS = 48


@dataclass(frozen=True)
class Family:
    """A family of curves.

    Attributes:
        z: (amounts relative to the first one, b) -> z.
        rates: the bounds of b; None where there is none.
    """

    name: str
    z: Callable[[np.ndarray, np.ndarray], np.ndarray]
    rates: tuple[float, float] | None


POWER = Family("power", lambda x, b: np.exp(-b * np.log(x)), (1e-3, 5.0))
EXPONENTIAL = Family("exponential", lambda x, b: np.exp(-b * (x - 1)), (1e-4, 5.0))
LOGARITHMIC = Family("logarithmic", lambda x, b: -np.log(x) + 0 * b, None)


class Coefficients(NamedTuple):
    """Of `c - a z`, each (many,): of accuracies as they are, of losses with their sign changed."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray


@dataclass(frozen=True)
class Trend:
    """A fitted curve. `a` and `b` are those of the amounts as they were given, in the values' own sign."""

    family: Family
    amplitude: float
    b: float
    c: float
    first: float
    sign: float
    at_bound: bool = False

    @property
    def a(self) -> float:
        """Of c - a x^(-b) (of losses: c + a x^(-b)), x in its own unit."""
        if self.family is POWER:
            return self.amplitude * self.first**self.b
        return self.amplitude * math.exp(self.b) if self.family is EXPONENTIAL else self.amplitude

    @property
    def limit(self) -> float | None:
        """The asymptote."""
        return None if self.family.rates is None else self.c

    def at(self, x: float | np.ndarray) -> np.ndarray:
        """The values at the amounts `x`, above 0."""
        return self.c - self.sign * self.amplitude * self._z(x)

    def left(self, x: float) -> float:
        """What is left to gain past the amount `x`: the distance to the asymptote, infinite where there is none."""
        return math.inf if self.family.rates is None else float(self.amplitude * self._z(x))

    def data_needed(self, goal: float) -> float | None:
        """The amount at which the curve reaches `goal`; None: never (nor at an amount that a float can hold)."""
        gain = self.sign * (self.c - goal)
        if self.family is LOGARITHMIC:
            return _finite(lambda: self.first * math.exp(-gain / self.amplitude)) if self.amplitude else None
        if gain <= 0:
            return None
        if self.amplitude == 0:
            return 0.0
        if self.family is POWER:
            return _finite(lambda: self.first * (self.amplitude / gain) ** (1 / self.b))
        return self.first * max(0.0, 1 + math.log(self.amplitude / gain) / self.b)

    def _z(self, x: float | np.ndarray) -> np.ndarray:
        return self.family.z(np.asarray(x, np.float64) / self.first, np.array(self.b))


def _finite(amount: Callable[[], float]) -> float | None:
    try:
        found = amount()
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def fit(curve: Curve, family: Family = POWER, *, anchor: float | None = None, weight: float = 1.0) -> Trend:
    """The curve of the family that is closest to a curve's mean: the learning trend of its level.

    Args:
        anchor: an asymptote seen before: one more observation, at infinity, with `weight`.
    """
    anchors = None if anchor is None else np.array([anchor])
    return _trends(curve, coefficients(curve, curve.mean[None], family, anchors, weight), family)[0]


def fit_prefixes(curve: Curve, family: Family = POWER) -> list[Trend]:
    """The trend of every level from the third on, all at once: `fit(curve.until(level))` for each."""
    known = np.arange(1, curve.levels + 1) <= np.arange(FEWEST, curve.levels + 1)[:, None]
    values = np.repeat(curve.mean[None], len(known), axis=0)
    return _trends(curve, coefficients(curve, values, family, known=known), family)


def _trends(curve: Curve, found: Coefficients, family: Family) -> list[Trend]:
    bound = 2 * CEILING[curve.kind] if curve.kind in CEILING and family.rates is not None else math.inf
    return [
        Trend(family, float(a), float(b), curve.sign * float(c), float(curve.x[0]), curve.sign, c >= bound)
        for a, b, c in zip(*found, strict=True)
    ]


def values_at(curve: Curve, found: Coefficients, family: Family, x: np.ndarray) -> np.ndarray:
    """(many, places) fitted curves at the amounts `x`."""
    z = family.z(x / curve.x[0], found.b[:, None])
    return curve.sign * (found.c[:, None] - found.a[:, None] * z)


def coefficients(
    curve: Curve,
    values: np.ndarray,
    family: Family,
    anchors: np.ndarray | None = None,
    weight: float = 1.0,
    known: np.ndarray | None = None,
) -> Coefficients:
    """Fits many curves at once.

    Args:
        curve: says where values were measured, and what they are.
        values: (many, levels).
        anchors: (many,) asymptotes seen before.
        weight: of the anchor's residual; those of the observations have 1.
        known: (many, levels) which values count; default: all.
    """
    y = curve.sign * values
    x = curve.x / curve.x[0]
    weights = np.ones_like(y) if known is None else known.astype(np.float64)
    low, high = _bounds(curve, np.where(weights > 0, y, np.inf).min(1), family)
    if anchors is not None and weight > 0:
        y = np.concatenate([y, curve.sign * anchors[:, None]], axis=1)
        weights = np.concatenate([weights, np.full((len(y), 1), weight**2)], axis=1)

    def columns(b: np.ndarray) -> np.ndarray:
        z = family.z(x, b[..., None])
        return z if y.shape[1] == len(x) else np.concatenate([z, np.zeros((*z.shape[:-1], 1))], axis=-1)

    def solved(b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _linear(columns(b), y, weights, low, high)

    if family.rates is None:
        a, c, _ = solved(np.zeros(len(y)))
        return Coefficients(a, np.zeros(len(y)), c)
    grid = np.linspace(math.log(family.rates[0]), math.log(family.rates[1]), GRID)
    best = solved(np.exp(grid)[:, None] * np.ones(len(y)))[2].argmin(0)
    left, right = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, GRID - 1)]
    b = np.exp(_golden(lambda t: solved(np.exp(t))[2], left, right))
    a, c, _ = solved(b)
    return Coefficients(a, b, c)


def _bounds(curve: Curve, least: np.ndarray, family: Family) -> tuple[np.ndarray, np.ndarray]:
    """(many,) of c. `least` is each curve's smallest value (of a loss: its largest, with the sign changed)."""
    nothing = np.zeros(len(least))
    if family.rates is None:
        return nothing - np.inf, nothing + np.inf
    return (least, nothing) if curve.kind == "loss" else (nothing, nothing + 2 * CEILING[curve.kind])


def _linear(
    z: np.ndarray, y: np.ndarray, weights: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best a >= 0 and c within its bounds for given columns z (..., many, levels), and the sum of squares.

    The sum of squares is convex: where its minimum is outside of the bounds, the best point is on one of the edges.
    """
    total = weights.sum(-1)
    mean_z = (weights * z).sum(-1) / total
    start = y[:, :1]  # of a constant curve every difference is exactly 0 then
    mean_y = start[:, 0] + (weights * (y - start)).sum(-1) / total
    from_mean = z - mean_z[..., None]
    spread = (weights * from_mean**2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = -(weights * from_mean * (y - start)).sum(-1) / spread
    a = np.where(spread > 0, a, 0.0)
    c = mean_y + a * mean_z
    inside = (a >= 0) & (c >= low) & (c <= high)
    squares = _squares(z, y, weights, a, c)
    if inside.all():
        return a, c, squares
    squares = np.where(inside, squares, np.inf)
    edges = [(np.zeros_like(a), np.clip(mean_y, low, high) + np.zeros_like(a))]
    norm = (weights * z * z).sum(-1)
    for edge in (low, high):
        if np.isfinite(edge).all():
            slope = (weights * z * (edge[:, None] - y)).sum(-1) / norm
            edges.append((np.maximum(slope, 0.0), edge + np.zeros_like(a)))
    for edge_a, edge_c in edges:
        found = _squares(z, y, weights, edge_a, edge_c)
        closer = found < squares
        a, c, squares = np.where(closer, edge_a, a), np.where(closer, edge_c, c), np.where(closer, found, squares)
    return a, c, squares


def _squares(z: np.ndarray, y: np.ndarray, weights: np.ndarray, a: np.ndarray, c: np.ndarray) -> np.ndarray:
    return (weights * (c[..., None] - a[..., None] * z - y) ** 2).sum(-1)


def _golden(function: Callable[[np.ndarray], np.ndarray], left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where each of many functions of one variable is least between `left` and `right`."""
    inner, outer = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
    at_inner, at_outer = function(inner), function(outer)
    for _ in range(STEPS):
        goes_left = at_inner <= at_outer
        left, right = np.where(goes_left, left, inner), np.where(goes_left, outer, right)
        new = np.where(goes_left, right - GOLDEN * (right - left), left + GOLDEN * (right - left))
        at_new = function(new)
        inner, outer = np.where(goes_left, new, outer), np.where(goes_left, inner, new)
        at_inner, at_outer = np.where(goes_left, at_new, at_outer), np.where(goes_left, at_inner, at_new)
    return (left + right) / 2
