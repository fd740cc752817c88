"""From the arms' curves to effects and verdicts: what a method saved at equal compute, and how sure that is.

Everything here is a pure function of numbers that the results file holds, so that any verdict can be worked
out again from the committed JSON alone. The words:

- *difference*: the method's final metric minus the baseline's, at equal training FLOPs, per seed.
- *saving*: 1 - FLOPs(method reaches the baseline's final metric for good) / FLOPs(baseline), per seed. 0.35
  means that 35 % of the baseline's compute was not needed. It is not a *speed-up*: see `speed_up`.
- *saving with source*: the same, with what the reused model cost to make added to the method's FLOPs; what the baseline
  reuses too is nobody's saving and is left out.

**A pair that does not end at the baseline's final metric or better has no saving.** All that its curve says is that the
saving is below about zero, not how far. Counting it as 0 would flatter a method that is worse, and leaving
it out would average over the lucky seeds. So its saving is `None`, and then the mean and the interval over
the seeds are `None` too; `reached` says which pairs are meant. The price: one missed seed in three hides
the two others' mean (they stay in `per_seed`).

**Verdicts** are about the direction of the paper's claim (the method gets better results from the same
compute) at the scale of our own runs. They never say that a paper's number was reproduced.

- `holds`: the 95 % interval of the difference lies wholly on the better side of 0, every pair reached the
  baseline's final metric, and the 95 % interval of the saving lies wholly above 0.
- `does not hold`: the 95 % interval of the difference lies wholly on the worse side of 0; or the interval
  of the saving lies wholly below 0; or the method diverged in every one of two or more pairs.
- `unclear`: everything else: an interval that contains 0, a seed that diverged, or a single seed (no
  interval at all).

A study without training (its curves end at 0 FLOPs) has no saving; there the interval of the difference alone decides.

An arm of which a run was stopped by a forecast has no effect and no verdict: its end was not measured.

Intervals are Student's t over paired seeds: each seed gives method and baseline the same data order and the
same evaluation, so the pair's difference is free of what both share. With two or three seeds they are wide,
as they should be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypedDict

Better = Literal["lower", "higher"]
Verdict = Literal["holds", "does not hold", "unclear"]


class Point(TypedDict):
    """One evaluation: training FLOPs spent before it, and the metric (`None` where it was not finite)."""

    flops: float
    value: float | None


Curve = Sequence[Point]


class Interval(TypedDict):
    """A mean over seeds and its 95 % interval; `None` where it is not defined."""

    mean: float | None
    low: float | None
    high: float | None


@cache
def student_t_quantile(p: float, df: int) -> float:
    """The value that a Student's t variable with `df` degrees of freedom stays below with probability `p`.

    The distribution has a closed form for whole degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4);
    it is inverted by bisection.

    Raises:
        ValueError: `p` is not strictly between 0 and 1, or `df` is below 1.
    """
    if not 0 < p < 1 or df < 1:
        raise ValueError(f"a t quantile needs 0 < p < 1 and df >= 1; found p={p}, df={df}")
    if p < 0.5:
        return -student_t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while _central_probability(high, df) < 2 * p - 1:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if _central_probability(middle, df) < 2 * p - 1:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _central_probability(t: float, df: int) -> float:
    """P(|T| <= t)."""
    angle = math.atan(t / math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = df % 2 == 1
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(df // 2):
        total += term
        term *= cosine**2 * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def interval(values: Sequence[float | None], confidence: float = 0.95) -> Interval:
    """Mean and Student's t interval of independent values.

    A missing value makes everything `None` (see the module's docstring); one value alone has a mean and no
    interval.
    """
    known = [v for v in values if v is not None]
    if not known or len(known) < len(values):
        return {"mean": None, "low": None, "high": None}
    n = len(known)
    mean = math.fsum(known) / n
    if n == 1:
        return {"mean": mean, "low": None, "high": None}
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in known) / (n - 1))
    half = student_t_quantile(0.5 + confidence / 2, n - 1) * deviation / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def flops_to_reach(curve: Curve, target: float, better: Better = "lower") -> float | None:
    """Training FLOPs from which on a curve is never worse than a target; `None` where it ends worse.

    Between two evaluations the metric is taken to move in a straight line. The *last* crossing counts: a lucky
    evaluation saves nothing, and neither does a start that a warm-up first undoes (a grown model may begin at the
    target and be worse for a while). A curve that keeps to the target from before its first step needs 0 FLOPs. Across
    an evaluation that was not finite nothing is interpolated: the crossing is then the evaluation that shows it.

    Raises:
        ValueError: the curve is empty, or its FLOPs decrease.
    """
    if not curve:
        raise ValueError("a curve needs at least one evaluation")
    sign = 1.0 if better == "lower" else -1.0
    reached: float | None = None
    worse: tuple[float, float] | None = None  # the evaluation before, where it was worse than the target
    for number, point in enumerate(curve):
        flops, value = point["flops"], _finite(point["value"])
        if number and flops < curve[number - 1]["flops"]:
            raise ValueError(f"a curve's FLOPs must not decrease: {curve[number - 1]['flops']:g}, then {flops:g}")
        gap = None if value is None else sign * (value - target)
        if gap is None or gap > 0:
            reached, worse = None, None if gap is None else (flops, gap)
        elif reached is None:
            reached = flops
            if worse is not None:
                flops_before, gap_before = worse
                reached = flops_before + (flops - flops_before) * gap_before / (gap_before - gap)
    return reached


def speed_up(saving: float) -> float:
    """A saving as a speed-up: 0.353 of the compute saved is 1 / (1 - 0.353) - 1 = 0.546 faster.

    Raises:
        ValueError: the saving is above 1.
    """
    if saving > 1:
        raise ValueError(f"no more than everything can be saved; found a saving of {saving:g}")
    return math.inf if saving == 1 else 1 / (1 - saving) - 1


def saving_of(speed_up: float) -> float:
    """A speed-up as a saving: 0.546 faster is 1 - 1 / 1.546 = 0.353 of the compute saved.

    Raises:
        ValueError: the speed-up is -1 or below.
    """
    if speed_up <= -1:
        raise ValueError(f"a speed-up is above -1; found {speed_up:g}")
    return 1 - 1 / (1 + speed_up)


def verdict(difference: Interval, saving: Interval | None, diverged: Sequence[bool], better: Better) -> Verdict:
    """The verdict on one arm; the module's docstring is the definition. `saving` is None where nothing was trained."""
    if len(diverged) < 2:
        return "unclear"
    if all(diverged):
        return "does not hold"
    worst, best = (
        (difference["high"], difference["low"]) if better == "lower" else (difference["low"], difference["high"])
    )
    sign = -1.0 if better == "lower" else 1.0
    if worst is not None and best is not None:
        if sign * best < 0:
            return "does not hold"
        # (The saving has an interval only where every pair reached the baseline's final metric.)
        if sign * worst > 0 and (saving is None or (saving["low"] is not None and saving["low"] > 0)):
            return "holds"
    if saving is not None and saving["high"] is not None and saving["high"] < 0:
        return "does not hold"
    return "unclear"


def effect(
    method: Sequence[Curve], baseline: Sequence[Curve], reused_flops: Sequence[float | None], better: Better
) -> dict[str, Any]:
    """The effect of one arm against the baseline.

    Args:
        method: the arm's curve for each seed; each starts before the first step and ends with the final
            metric.
        baseline: the baseline's curve for each seed, in the same order of seeds.
        reused_flops: what the models that the arm started from cost to make, beyond what those of the baseline cost,
            for each seed; `None`: not known.
        better: which way the metric improves.

    Returns:
        `difference`, `saving` and `saving_with_source` (each with `mean`, `low`, `high`, `per_seed`; the
        savings with `reached`) and the `verdict`.
    """
    differences: list[float | None] = []
    savings: list[float | None] = []
    with_source: list[float | None] = []
    reached: list[bool] = []
    diverged: list[bool] = []
    for own, other, source in zip(method, baseline, reused_flops, strict=True):
        final, target = _finite(own[-1]["value"]), _finite(other[-1]["value"])
        differences.append(None if final is None or target is None else final - target)
        diverged.append(final is None and target is not None)
        total = other[-1]["flops"]
        needed = None if target is None or total <= 0 else flops_to_reach(own, target, better)
        reached.append(needed is not None)
        savings.append(None if needed is None else 1 - needed / total)
        with_source.append(None if needed is None or source is None else 1 - (needed + source) / total)
    difference, saving = interval(differences), _at_most_one(interval(savings))
    trained = any(curve[-1]["flops"] > 0 for curve in (*method, *baseline))
    return {
        "difference": {**difference, "per_seed": differences},
        "saving": {**saving, "per_seed": savings, "reached": reached},
        "saving_with_source": {
            **_at_most_one(interval(with_source)),
            "per_seed": with_source,
            "reached": list(reached),
        },
        "verdict": verdict(difference, saving if trained else None, diverged, better),
    }


def effects(results: Mapping[str, Any]) -> dict[str, Any]:
    """The effects of every arm but the baseline, from the JSON form of a results file (`report/results.py`).

    Reads `arms`, `baseline`, `references` and `better`. Where the baseline is not among the arms there is
    nothing to compare with, and no effect; an arm among the references is at another budget, and has none.
    """
    arms, baseline = results["arms"], results["baseline"]
    if baseline not in arms:
        return {}
    reference = curves(arms[baseline])
    found = {}
    for name, arm in arms.items():
        if name == baseline or name in results.get("references", ()) or any(arm.get("stopped") or []):
            continue
        reused = [
            None if own is None or other is None else own - other
            for own, other in zip(_reused(arm, reference), _reused(arms[baseline], reference), strict=True)
        ]
        found[name] = effect(curves(arm), reference, reused, results["better"])
    return found


def _reused(arm: Mapping[str, Any], reference: Sequence[Any]) -> Sequence[float | None]:
    return arm.get("reused_flops") or [0.0] * len(reference)


def curves(arm: Mapping[str, Any]) -> list[list[Point]]:
    """An arm's curve for each seed, from its JSON form: `flops` is one list for all seeds or one for each."""
    curve = arm["curve"]
    flops = curve["flops"]
    shared = not (flops and isinstance(flops[0], Sequence))
    return [
        [{"flops": f, "value": v} for f, v in zip(flops if shared else flops[seed], values, strict=True)]
        for seed, values in enumerate(curve["values"])
    ]


def remarks(results: Mapping[str, Any]) -> list[str]:
    """What a reader of the effects should know before believing them; one sentence each."""
    arms, baseline, better = results["arms"], results["baseline"], results["better"]
    if baseline not in arms:
        return [f"The baseline '{baseline}' was not run, so nothing can be compared."]
    found = []
    if len(results["seeds"]) < 2:
        found.append("One seed: there is no interval, and so no verdict but 'unclear'.")
    references = results.get("references", ())
    found += [f"'{name}' is a reference at another budget: it is not judged." for name in arms if name in references]
    reference = curves(arms[baseline])
    for name, arm in arms.items():
        stops = arm.get("stopped") or [None] * len(reference)
        for seed, own, other, stop in zip(results["seeds"], curves(arm), reference, stops, strict=True):
            if stop is not None:
                found.append(f"'{name}', seed {seed}: {_stopped(stop)}")
                continue
            kind = {"is_baseline": name == baseline, "is_reference": name in references}
            remark = _weakness(own, other, better=better, **kind)
            found += [f"'{name}', seed {seed}: {text}" for text in remark]
    return found + _saved_by_stopping(results, reference)


def _stopped(stop: Mapping[str, Any]) -> str:
    """Why a run was ended."""
    interval = f"[{stop['low']:+.3g}, {stop['high']:+.3g}]"
    return (
        f"stopped at {100 * stop['share']:.0f} % of the compute: forecast of its difference from the baseline "
        f"{stop['forecast']:+.3g} {interval}, from {stop['pairs']} finished pairs; not measured, so no verdict."
    )


def _saved_by_stopping(results: Mapping[str, Any], reference: Sequence[Curve]) -> list[str]:
    """How much of the arms' compute was not spent."""
    left_out = {results["baseline"], *results.get("references", ())}
    others = [arm for name, arm in results["arms"].items() if name not in left_out]
    saved = [
        curve[-1]["flops"] - stop["flops"]
        for arm in others
        for curve, stop in zip(reference, arm.get("stopped") or [None] * len(reference), strict=True)
        if stop is not None
    ]
    if not saved:
        return []
    whole = len(others) * sum(curve[-1]["flops"] for curve in reference)
    runs = f"{len(saved)} run{'s' if len(saved) > 1 else ''}"
    return [
        f"Stopping {runs} by forecast saved {100 * sum(saved) / whole:.0f} % of the FLOPs of all arms but the baseline."
    ]


def _weakness(own: Curve, baseline: Curve, *, is_baseline: bool, is_reference: bool, better: Better) -> list[str]:
    """What is weak in one seed's curve."""
    sign = 1.0 if better == "lower" else -1.0
    spent, equal = own[-1]["flops"], baseline[-1]["flops"]
    found = []
    if abs(spent - equal) > 0.02 * equal and not is_reference:
        found.append(f"spent {spent / equal - 1:+.1%} FLOPs against the baseline, which is not equal compute.")
    final = _finite(own[-1]["value"])
    if final is None:
        return [*found, "diverged: its final metric is not a finite number."]
    best = sign * min(sign * v for point in own if (v := _finite(point["value"])) is not None)
    if is_baseline and sign * (final - best) > 0.01 * abs(best):
        found.append(f"ended worse ({final:.4g}) than it had been ({best:.4g}): a weak target flatters savings.")
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _at_most_one(found: Interval) -> Interval:
    """Nobody can save more than everything, so the t interval is cut at 1."""
    high = found["high"]
    return found if high is None else {**found, "high": min(high, 1.0)}
