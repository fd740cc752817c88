"""Which arm of a study cannot win any more: forecasts of an arm's difference from the baseline at the end.

The arms of a study train under schedules that decay, so an arm's curve cannot be extrapolated by a family of learning
curves. What can be compared is an arm and the baseline of the *same seed* at the *same compute*: both are at the same
place of their schedules, on the same data in the same order. How that difference still moves from there to the end
(its *drift*) is known from pairs that have finished: the arm's own earlier seeds say where it goes, all finished pairs
of the study say how widely it strays:

    difference at the end = difference now + mean own drift +- t * s * sqrt(2) * sqrt(1 + 1 / own pairs)

`s` is the deviation of drifts from the mean of their own seed, so t has (pairs - seeds) degrees of freedom. The pairs
of a seed share its baseline, and what that strays cancels within the seed: hence the sqrt(2), which takes the baseline
to stray as much as an arm. (The plain deviation over all pairs looks natural and is too small: with equal arms and one
finished seed its intervals held 88 to 90 % instead of 95 %.) `s` also holds what arms differ by; that errs on the
cautious side, and one arm alone has too few pairs.

Nothing is decided before an arm has finished one whole seed and the pairs have two degrees of freedom (three pairs of
one seed): the first seed is always paid for in full. In exchange nothing is assumed about schedules, stages or the
shape of curves, and an arm that starts badly and catches up (or the other way round) has shown that in its first seed.

An arm is ended when at two evaluations in a row the whole interval is on the worse side. Looking again and again makes
the chance of a wrong stop another than that of one interval: `replay.py` measures it on finished studies. A stopped arm
has no final metric and no verdict.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from warmstart.disk import write_whole
from warmstart.errors import StateError
from warmstart.forecast import NotYet, Prediction
from warmstart.verdict import Better, Curve, student_t_quantile

CONFIDENCE = 0.95
FREEDOM = 2
"""Degrees of freedom without which nothing is said."""
LOOKS = 2
"""Evaluations in a row that must agree."""
FILE = "stopped.json"
"""In a run's folder: this run was ended by a forecast."""


class Stopped(Exception):
    """A run was ended because its arm cannot win."""


@dataclass(frozen=True)
class Pair:
    """An arm and the baseline of one seed, both from before the first step to the end."""

    arm: str
    seed: int
    own: Curve
    baseline: Curve


@dataclass(frozen=True)
class Stop:
    """Why and where a run was ended.

    Attributes:
        share: of the baseline's FLOPs that the run had used.
        flops, tokens, seconds: what it had used.
        difference: from the baseline at that moment.
        forecast, low, high: of the difference at the end.
        pairs: finished pairs that the forecast stands on.
    """

    share: float
    flops: float
    tokens: float
    seconds: float
    difference: float
    forecast: float
    low: float
    high: float
    pairs: int


def value_at(curve: Curve, flops: float) -> float | None:
    """The metric of a curve at some compute, on a straight line between two evaluations.

    None outside of the curve, or beside an evaluation that was not finite.
    """
    right = bisect.bisect_left(curve, flops, key=lambda point: point["flops"])
    if right == len(curve):
        return None
    after, end = curve[right]["value"], curve[right]["flops"]
    if after is None or not math.isfinite(after):
        return None
    if end == flops:
        return after
    before, start = (curve[right - 1]["value"], curve[right - 1]["flops"]) if right else (None, 0.0)
    if before is None or not math.isfinite(before):
        return None
    return before + (after - before) * (flops - start) / (end - start)


def difference_at(own: Curve, baseline: Curve, flops: float) -> float | None:
    """The arm's metric minus the baseline's of the same seed, at the same compute."""
    here, there = value_at(own, flops), value_at(baseline, flops)
    return None if here is None or there is None else here - there


def final_difference(own: Curve, baseline: Curve) -> float | None:
    """The arm's final metric minus the baseline's."""
    ends = own[-1]["value"], baseline[-1]["value"]
    if any(end is None or not math.isfinite(end) for end in ends):
        return None
    return ends[0] - ends[1]  # type: ignore[operator]


def drift(pair: Pair, flops: float) -> float | None:
    """How a finished pair's difference still moved from some compute to the end."""
    now, end = difference_at(pair.own, pair.baseline, flops), final_difference(pair.own, pair.baseline)
    return None if now is None or end is None else end - now


def forecast_difference(
    arm: str, now: float, flops: float, finished: Sequence[Pair], confidence: float = CONFIDENCE
) -> Prediction | NotYet:
    """What the arm's difference from the baseline will be at the end.

    Args:
        now: its difference at the compute `flops`.
        finished: pairs of this study, of the arm and of others.
    """
    drifts = [(pair, found) for pair in finished if (found := drift(pair, flops)) is not None]
    own = [found for pair, found in drifts if pair.arm == arm]
    if not own:
        return NotYet(f"no seed of '{arm}' has finished", len(drifts))
    seeds: dict[int, list[float]] = {}
    for pair, found in drifts:
        seeds.setdefault(pair.seed, []).append(found)
    freedom = len(drifts) - len(seeds)
    if freedom < FREEDOM:
        return NotYet(f"{len(drifts)} finished pairs of {len(seeds)} seeds are too few", len(drifts))
    means = {seed: math.fsum(members) / len(members) for seed, members in seeds.items()}
    squares = math.fsum((found - means[pair.seed]) ** 2 for pair, found in drifts)
    spread = math.sqrt(2 * squares / freedom * (1 + 1 / len(own)))
    half = student_t_quantile((1 + confidence) / 2, freedom) * spread
    value = now + math.fsum(own) / len(own)
    return Prediction(value, value - half, value + half, math.nan, len(drifts))


def cannot_win(forecast: Prediction | NotYet, better: Better) -> bool:
    """Whether the whole interval of a difference is on the worse side of 0."""
    if isinstance(forecast, NotYet):
        return False
    return forecast.low > 0 if better == "lower" else forecast.high < 0


@dataclass(frozen=True)
class Watch:
    """What decides about one run: its arm, the baseline of its seed, and the pairs that finished before it began.

    All of it is known when the run begins, so a decision depends on nothing but the run's own evaluations: not on how
    fast machines are, nor on what ran beside it, nor on whether the run was interrupted.
    """

    arm: str
    baseline: Curve
    finished: Sequence[Pair]
    better: Better

    def forecast(self, flops: float, value: float | None) -> tuple[float, Prediction | NotYet]:
        """(difference now, forecast of the difference at the end) at an evaluation."""
        there = value_at(self.baseline, flops)
        if value is None or not math.isfinite(value) or there is None:
            return math.nan, NotYet("no finite difference from the baseline here", 0)
        return value - there, forecast_difference(self.arm, value - there, flops, self.finished)

    def decide(self, curve: Curve, *, tokens: float = 0, seconds: float = 0) -> Stop | None:
        """Ends the run at the last evaluation of its curve so far, or lets it go on (None).

        At the end of the budget there is nothing left to save.
        """
        whole = self.baseline[-1]["flops"]
        looks = [point for point in curve if point["flops"] > 0][-LOOKS:]
        if len(looks) < LOOKS or looks[-1]["flops"] >= 0.99 * whole:
            return None
        found = [self.forecast(point["flops"], point["value"]) for point in looks]
        if not all(cannot_win(forecast, self.better) for _, forecast in found):
            return None
        (now, forecast), flops = found[-1], looks[-1]["flops"]
        assert isinstance(forecast, Prediction)
        return Stop(
            flops / whole, flops, tokens, seconds, now, forecast.value, forecast.low, forecast.high, forecast.level
        )


def save_stop(folder: Path, stop: Stop) -> None:
    """Marks a run as ended."""
    write_whole(folder / FILE, json.dumps(asdict(stop), indent=1) + "\n")


def read_stop(folder: Path) -> Stop | None:
    """What ended a run; None where it was not ended.

    Raises:
        StateError: the mark is broken.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        raw: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Stop(**raw)
    except (ValueError, TypeError) as error:
        raise StateError(f"{path} is broken ({error}); remove it, and the run goes on where it was") from None
