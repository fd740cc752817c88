"""Forecasts: (curve) -> prediction with an interval, before the training that it speaks of has been paid for.

A *learning curve* is what was measured at growing amounts of data (or of anything else that is paid for): each point
must be a finished training of its own. Points along ONE run whose learning rate decays are no learning curve in this
sense: every point would need its own finished schedule (docs/forecasting.md).

A forecaster either predicts or says why it cannot yet (`NotYet`); it never returns a number that it does not believe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from warmstart.errors import DataError
from warmstart.part import Part

Kind = Literal["accuracy", "share", "loss"]
"""What a curve measures: an accuracy in percent (0 to 100), one as a share (0 to 1), or a loss (0 and above)."""

CEILING: dict[str, float] = {"accuracy": 100.0, "share": 1.0}
FEWEST = 3
"""Points without which no curve can be fitted."""


@dataclass(frozen=True, eq=False)
class Curve:
    """What was measured at growing amounts; make one with `Curve.of`, which checks.

    Attributes:
        x: (levels,) amounts, rising from above 0.
        values: (orders, levels) what was measured; one row for each order of the data (or seed).
    """

    x: np.ndarray
    values: np.ndarray
    kind: Kind = "accuracy"

    @classmethod
    def of(cls, x: Sequence[float] | np.ndarray, y: Sequence | np.ndarray, kind: Kind = "accuracy") -> Curve:
        """A checked curve.

        Args:
            x: (levels,) amounts.
            y: (levels,), or (orders, levels) of several orders of the data measured at the same amounts.

        Raises:
            DataError: fewer than three points, amounts that do not rise, values that are not finite or that this kind
                cannot have.
        """
        amounts, values = np.asarray(x, np.float64), np.atleast_2d(np.asarray(y, np.float64))
        if amounts.ndim != 1 or values.ndim != 2 or values.shape[1] != len(amounts) or not len(values):
            raise DataError(f"a curve needs as many values as amounts, found shapes {values.shape} and {amounts.shape}")
        if len(amounts) < FEWEST:
            raise DataError(f"a curve needs at least {FEWEST} points, found {len(amounts)}")
        if not np.isfinite(amounts).all() or not np.isfinite(values).all():
            raise DataError("a curve's amounts and values must be finite numbers")
        if amounts[0] <= 0:
            raise DataError(f"a curve's amounts must be above 0, found {amounts[0]:g}")
        wrong = np.flatnonzero(np.diff(amounts) <= 0)
        if len(wrong):
            k = int(wrong[0])
            raise DataError(f"a curve's amounts must rise; number {k + 2} is {amounts[k + 1]:g} after {amounts[k]:g}")
        low, high = values.min(), values.max()
        if low < 0 or high > CEILING.get(kind, np.inf):
            found = low if low < 0 else high
            allowed = f"from 0 to {CEILING[kind]:g}" if kind in CEILING else "0 or more"
            raise DataError(f"values of the kind '{kind}' must be {allowed}, found {found:g}")
        return cls(amounts, values, kind)

    @property
    def levels(self) -> int:
        """How many points there are; level l is what is known after the first l of them."""
        return len(self.x)

    @property
    def mean(self) -> np.ndarray:
        """(levels,) the mean over the orders."""
        return self.values.mean(0)

    @property
    def sign(self) -> float:
        """1 where values rise with the amount, -1 for losses."""
        return -1.0 if self.kind == "loss" else 1.0

    def until(self, level: int) -> Curve:
        """What was known at a level."""
        return Curve(self.x[:level], self.values[:, :level], self.kind)


@dataclass(frozen=True)
class Prediction:
    """What will be measured at `at`, and how sure that is.

    Attributes:
        low, high: the interval; it holds what comes true as often as its confidence says if the family of curves is
            right, which nobody knows beforehand.
        level: how many points it stands on.
        limit: what no amount gets past, by this forecast; None where the family has no limit.
    """

    value: float
    low: float
    high: float
    at: float
    level: int
    limit: float | None = None


@dataclass(frozen=True)
class NotYet:
    """Why there is no forecast yet."""

    reason: str
    level: int


def checked_amount(at: float) -> float:
    """The amount that a forecast is asked for.

    Raises:
        DataError: it is not above 0.
    """
    if not 0 < at < np.inf:
        raise DataError(f"a forecast is of an amount above 0, found {at:g}")
    return float(at)


class Forecaster(Part, room="forecast"):
    """The contract of a forecaster: `forecast(curve, at)`; the part keeps no state."""

    confidence: Annotated[float, Field(gt=0, lt=1, description="Of the interval.")] = 0.95
    draws: Annotated[int, Field(ge=20, description="Bootstrap draws of the interval.")] = 200

    def forecast(self, curve: Curve, at: float, *, seed: int = 0) -> Prediction | NotYet:
        """What will be measured at the amount `at`.

        Args:
            seed: of the bootstrap.

        Raises:
            DataError: `at` is not above 0.
        """
        raise NotImplementedError

    def expected(self, curve: Curve, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        """(many, places) the forecast of each row of `values` (many, levels) at the amounts `at`, without an interval.

        Whether it may be believed is not asked. What is decided by looking at a curve (where it has calmed down) is
        decided by `curve`, for all rows alike.
        """
        raise NotImplementedError

    def stop_level(self, curve: Curve, tolerance: float) -> int | None:
        """The first level at which, knowing that much, at most `tolerance` (in the values' unit) is left to gain.

        None where that is never so.
        """
        raise NotImplementedError
