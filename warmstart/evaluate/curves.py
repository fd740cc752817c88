"""What loss curves say about going on with a trained model: what it forgot, what it gained, and when.

Source: the quantities that "Continual Pre-Training of Large Language Models: How to (re)warm your model?" (arXiv
2308.04014) reads off its curves.
"""

from __future__ import annotations

from collections.abc import Sequence


def forgetting(curve: Sequence[float]) -> float:
    """How much the loss on the old corpus rose: final minus initial, in the curve's unit; negative is a gain.

    Raises:
        ValueError: the curve is empty.
    """
    if not curve:
        raise ValueError("forgetting: the curve has no values")
    return curve[-1] - curve[0]


def bump(curve: Sequence[float], share: float = 0.05) -> float:
    """How far the loss rises above its start within the first `share` of the points (at least the second point): the
    damage that re-warming does at once. 0 where it only falls.

    Raises:
        ValueError: the curve is empty.
    """
    if not curve:
        raise ValueError("bump: the curve has no values")
    return max(curve[: max(2, round(share * len(curve)) + 1)]) - curve[0]


def crossover_step(curve_a: Sequence[float], curve_b: Sequence[float]) -> int | None:
    """The first evaluation from which on `curve_a` stays below `curve_b`, having been at or above it before.

    Returns:
        A place in the curves; None where `curve_a` is below from its beginning (nothing is crossed) or not at the end.

    Raises:
        ValueError: the curves have different lengths: they must be measured at the same moments.
    """
    if len(curve_a) != len(curve_b):
        raise ValueError(f"crossover_step: {len(curve_a)} and {len(curve_b)} values; the curves must be equally long")
    below = [a < b for a, b in zip(curve_a, curve_b, strict=True)]
    if not below or not below[-1] or all(below):
        return None
    return len(below) - below[::-1].index(False)
