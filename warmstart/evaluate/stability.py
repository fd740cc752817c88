"""The stability gap: how deep a curve of accuracies dips before it recovers, and where a network moves meanwhile.

Continued pre-training first loses ability and then regains it, while its loss falls all the time ("Efficient Continual
Pre-training by Mitigating the Stability Gap", arXiv 2406.14833, sections 3 and 4). Plain functions on curves and
weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch


@dataclass(frozen=True)
class Gap:
    """A dip in a curve where higher is better.

    Attributes:
        depth: the start minus the lowest value, never negative.
        recovery: the first point in time after the lowest at which the curve is at its start again; the first time of
            all where it never dips, None where it never recovers.
        area: the area between the start's level and the curve where it is below, in value x time.
    """

    depth: float
    recovery: float | None
    area: float


def gap(times: Sequence[float], values: Sequence[float]) -> Gap:
    """The dip of a curve below its first value. For losses (lower is better) give their negatives.

    Raises:
        ValueError: fewer than two points, or times that do not rise.
    """
    if len(values) != len(times) or len(values) < 2:
        raise ValueError(f"a gap needs at least two points, each with its time; found {len(times)} and {len(values)}")
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError("the times of a curve must rise")
    start, lowest = values[0], min(range(len(values)), key=values.__getitem__)
    depth = max(0.0, start - values[lowest])
    if depth == 0:
        return Gap(0.0, times[0], 0.0)
    recovery = next((times[n] for n in range(lowest, len(values)) if values[n] >= start), None)
    missing = [max(0.0, start - value) for value in values]
    area = sum(
        (times[n] - times[n - 1]) * (missing[n] + missing[n - 1]) / 2 for n in range(1, len(values))
    )  # trapezoids; a piece that crosses the level is counted as if it reached it at its end
    return Gap(depth, recovery, area)


def relative_update(
    weights: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor], smallest: float = 1e-8
) -> float:
    """Mean over all single weights of |w - w0| / |w0|; weights with |w0| below `smallest` are left out.

    Raises:
        ValueError: the two do not have the same tensors.
    """
    if {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in start.items()}:
        raise ValueError("relative update: the weights and those at the start are not the same tensors")
    total, count = 0.0, 0
    for name, before in start.items():
        counted = before.abs() >= smallest
        moved = (weights[name].detach().cpu().double() - before.double()).abs()
        total += float((moved[counted] / before.double().abs()[counted]).sum())
        count += int(counted.sum())
    return total / max(count, 1)
