"""Curves that might have been measured instead: the spread of a forecast over them is its interval.

Of several orders of the data, orders are drawn: prefixes of one order contain each other, so their errors are not
independent, and drawing points would make the interval too narrow. Of one order there is nothing to draw but its
residuals; they are drawn in blocks of neighbours, which keeps what hangs together, and are made larger by
sqrt(n / (n - 3)) for the three numbers that were fitted. That interval knows nothing of another order.
"""

from __future__ import annotations

import math

import numpy as np

from warmstart.forecast import Curve
from warmstart.randomness import numpy_generator

FEWEST_ORDERS = 3


def replicates(curve: Curve, smooth: np.ndarray, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Curves and the noise of one observation.

    Args:
        smooth: (levels,) the curve without its noise.

    Returns:
        (draws, levels) values, and (draws,) noise to add to what is predicted of a single order; 0 for a mean of
        orders.
    """
    generator = numpy_generator(seed, "forecast", "bootstrap")
    orders, levels = curve.values.shape
    if orders >= FEWEST_ORDERS:
        chosen = generator.integers(0, orders, (draws, orders))
        return curve.values[chosen].mean(1), np.zeros(draws)
    residuals = curve.mean - smooth
    residuals = (residuals - residuals.mean()) * math.sqrt(levels / max(levels - 3, 1))
    block = math.ceil(levels ** (1 / 3))
    starts = generator.integers(0, levels, (draws, math.ceil(levels / block)))
    places = (starts[:, :, None] + np.arange(block)).reshape(draws, -1)[:, :levels] % levels
    return smooth + residuals[places], generator.choice(residuals, draws)


def interval(value: float, sample: np.ndarray, confidence: float, ceiling: float = math.inf) -> tuple[float, float]:
    """The middle `confidence` of a sample, within what is possible; it holds the value itself."""
    low, high = np.quantile(sample, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(max(0.0, min(low, value))), float(max(value, min(ceiling, high)))
