"""Which arm cannot win any more, and how often saying so is wrong."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.errors import DataError, StateError
from warmstart.forecast import NotYet, Prediction
from warmstart.forecast.replay import Count, can_replay, every_baseline, replay, report
from warmstart.forecast.stopping import (
    FILE,
    Pair,
    Stop,
    Watch,
    cannot_win,
    difference_at,
    drift,
    forecast_difference,
    read_stop,
    save_stop,
    value_at,
)
from warmstart.randomness import numpy_generator
from warmstart.verdict import Curve, student_t_quantile

FLOPS = [k * 1e12 for k in range(11)]


def curve_of(values: list[float | None]) -> Curve:
    return [{"flops": f, "value": v} for f, v in zip(FLOPS, values, strict=True)]


def falling(end: float, start: float = 8.0) -> list[float | None]:
    return [end + (start - end) * math.exp(-k / 2) for k in range(10)] + [end]


BASE = curve_of(falling(4.0))


def shifted(*gaps: float) -> Curve:
    """A curve that is so much above the baseline at each evaluation (the last gap goes on)."""
    every = [*gaps, *[gaps[-1]] * (11 - len(gaps))]
    return [{"flops": p["flops"], "value": float(p["value"]) + g} for p, g in zip(BASE, every, strict=True)]  # type: ignore[arg-type]


def test_a_curve_between_two_evaluations() -> None:
    curve = curve_of([0, 10, None, 30, 40, 50, 60, 70, 80, 90, 100])
    assert value_at(curve, 0) == 0
    assert value_at(curve, 0.25e12) == pytest.approx(2.5)
    assert value_at(curve, 10e12) == 100
    assert value_at(curve, 10.1e12) is None
    assert value_at(curve[1:], 0.5e12) is None
    assert value_at(curve, 1.5e12) is None  # beside an evaluation that was not finite
    assert value_at(curve, 2e12) is None
    assert value_at(curve, 3e12) == 30


def test_the_forecast_is_now_plus_own_drift_give_or_take_the_spread_of_all() -> None:
    gaps = {"a": (0.5, 0.3), "b": (0.2, 0.25), "c": (0.4, 0.1)}  # now, at the end
    pairs = [Pair(name, 0, shifted(now, now, now, end), BASE) for name, (now, end) in gaps.items()]
    drifts = [end - now for now, end in gaps.values()]
    assert [drift(pair, 2e12) for pair in pairs] == pytest.approx(drifts)
    found = forecast_difference("b", 0.35, 2e12, pairs)
    assert isinstance(found, Prediction)
    assert found.value == pytest.approx(0.35 + 0.05)
    half = student_t_quantile(0.975, 2) * statistics.stdev(drifts) * math.sqrt(2) * math.sqrt(2)
    assert (found.low, found.high) == pytest.approx((0.4 - half, 0.4 + half))
    assert found.level == 3


def test_what_a_baseline_strays_is_not_taken_for_the_spread_of_its_arms() -> None:
    """A second seed in which everything drifts by 5 more changes the degrees of freedom and not the spread."""
    first = [Pair(name, 0, shifted(0.0, 0.0, end), BASE) for name, end in (("a", 0.1), ("b", 0.2), ("c", 0.3))]
    second = [Pair(name, 1, shifted(0.0, 0.0, end + 5), BASE) for name, end in (("x", 0.1), ("y", 0.2), ("z", 0.3))]
    one, both = (forecast_difference("a", 0.0, 1e12, pairs) for pairs in (first, [*first, *second]))
    assert isinstance(one, Prediction)
    assert isinstance(both, Prediction)
    assert one.value == both.value == pytest.approx(0.1)
    ratio = student_t_quantile(0.975, 4) / student_t_quantile(0.975, 2)
    assert both.high - both.low == pytest.approx(ratio * (one.high - one.low))


def test_nothing_is_said_of_an_arm_that_has_not_finished_a_seed_or_of_too_few_pairs() -> None:
    pairs = [Pair(name, 0, shifted(0.3), BASE) for name in "abd"]
    assert isinstance(forecast_difference("a", 0.3, 2e12, pairs), Prediction)
    for arm, finished, why in (
        ("c", pairs, "no seed of 'c'"),
        ("a", pairs[:2], "2 finished pairs of 1 seeds are too few"),
    ):
        found = forecast_difference(arm, 5.0, 2e12, finished)
        assert isinstance(found, NotYet)
        assert why in found.reason
        assert not cannot_win(found, "lower")


def test_an_arm_cannot_win_when_the_whole_interval_is_worse() -> None:
    def says(low: float, high: float) -> Prediction:
        return Prediction((low + high) / 2, low, high, math.nan, 3)

    assert cannot_win(says(0.1, 0.2), "lower")
    assert not cannot_win(says(-0.1, 0.2), "lower")
    assert cannot_win(says(-0.2, -0.1), "higher")
    assert not cannot_win(says(-0.2, 0.1), "higher")
    assert not cannot_win(says(0.1, 0.2), "higher")


def watch(finished: list[Pair], better: Any = "lower") -> Watch:
    return Watch("late", BASE, finished, better)


def so_far(last: int, *gaps: float) -> Curve:
    """A run's curve up to an evaluation."""
    return shifted(*gaps)[: last + 1]


def test_an_arm_that_starts_badly_and_catches_up_has_shown_that_in_its_first_seed() -> None:
    others = [Pair(name, 0, shifted(0.2, 0.2, 0.2, 0.2 + 0.001 * k), BASE) for k, name in enumerate("xyz")]
    catches_up = Pair("late", 0, shifted(0.5, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, -0.1), BASE)
    assert watch([catches_up, *others]).decide(so_far(2, 0.4)) is None
    loses = Pair("late", 0, shifted(0.5, 0.5, 0.5, 0.4), BASE)
    stop = watch([loses, *others]).decide(so_far(2, 0.5), tokens=7, seconds=3.5)
    assert stop is not None
    assert (stop.share, stop.flops, stop.tokens, stop.seconds, stop.pairs) == (0.2, 2e12, 7, 3.5, 4)
    assert stop.difference == pytest.approx(0.5)
    assert stop.forecast == pytest.approx(0.4)
    assert 0 < stop.low < stop.forecast < stop.high


def test_two_evaluations_in_a_row_must_agree() -> None:
    decided = watch([Pair(name, 0, shifted(0.4), BASE) for name in ("late", "x", "y")])
    assert decided.decide(so_far(1, 0.4)) is None  # the second evaluation, before the first step, does not count
    assert decided.decide(so_far(2, 0.4)) is not None
    assert decided.decide(so_far(3, 0.4, 0.4, -0.1, 0.4)) is None
    assert decided.decide(so_far(4, 0.4, 0.4, -0.1, 0.4)) is not None


def test_no_decision_at_the_end_or_without_a_number() -> None:
    decided = watch([Pair(name, 0, shifted(0.4), BASE) for name in ("late", "x", "y")])
    assert decided.decide(so_far(9, 0.4)) is not None
    assert decided.decide(so_far(10, 0.4)) is None
    for value in (None, math.nan, math.inf):
        curve = [*so_far(2, 0.4), {"flops": 3e12, "value": value}]
        assert decided.decide(curve) is None  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6), st.floats(-1, 1), st.integers(2, 9))
def test_the_better_way_is_the_mirror_of_the_other(ends: list[float], now: float, k: int) -> None:
    """A study whose metric has its sign changed stops the same runs."""

    def mirrored(curve: Curve) -> Curve:
        return [{"flops": p["flops"], "value": -float(p["value"])} for p in curve]  # type: ignore[arg-type]

    pairs = [
        Pair(name, n // 3, shifted(0.1, 0.3, end), BASE)
        for n, (name, end) in enumerate(zip("xyzxyz", ends, strict=True))
    ]
    pairs.append(Pair("late", 0, shifted(0.1), BASE))
    one = watch(pairs).decide(so_far(k, now))
    turned = [Pair(p.arm, p.seed, mirrored(p.own), mirrored(p.baseline)) for p in pairs]
    other = Watch("late", mirrored(BASE), turned, "higher").decide(mirrored(so_far(k, now)))
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert (other.low, other.high) == pytest.approx((-one.high, -one.low))


def test_a_stop_is_kept_in_the_runs_folder(tmp_path: Path) -> None:
    stop = Stop(0.3, 3e12, 100, 5.0, 0.2, 0.3, 0.1, 0.5, 4)
    assert read_stop(tmp_path) is None
    save_stop(tmp_path, stop)
    assert read_stop(tmp_path) == stop
    (tmp_path / FILE).write_text('{"share": 0.3}')
    with pytest.raises(StateError, match=r"stopped\.json is broken"):
        read_stop(tmp_path)


# ---- replay ----------------------------------------------------------------------------------------------------------


def study(arms: dict[str, list[Curve]], better: str = "lower") -> dict[str, Any]:
    def arm(seeds: list[Curve]) -> dict[str, Any]:
        values = [[p["value"] for p in curve] for curve in seeds]
        return {"flops": [FLOPS[-1]] * len(seeds), "curve": {"flops": FLOPS, "values": values}}

    return {
        "seeds": list(range(len(next(iter(arms.values()))))),
        "better": better,
        "baseline": "base",
        "arms": {name: arm(seeds) for name, seeds in arms.items()},
        "effects": {},
    }


def noisy(gap: float, seed: int, name: str, noise: float = 0.02) -> Curve:
    steps = numpy_generator(seed, "replay", name).normal(0, noise, 11)
    return [{"flops": p["flops"], "value": float(p["value"]) + gap + e} for p, e in zip(BASE, steps, strict=True)]  # type: ignore[arg-type]


def made(gaps: dict[str, float], seeds: int = 3, first: int = 0) -> dict[str, Any]:
    return study({n: [noisy(gap, first + s, n) for s in range(seeds)] for n, gap in {"base": 0.0, **gaps}.items()})


def test_clear_losers_are_stopped_from_the_second_seed_on_and_winners_never() -> None:
    found = replay(made({"bad": 0.5, "good": -0.5, "better": -0.4}))
    assert (found.pairs, found.lost) == (9, 3)
    assert (found.watched, found.watched_lost) == (6, 2)
    assert (found.stopped, found.wrong) == (2, 0)
    assert found.arms == ("bad",)
    assert found.flops == 9 * FLOPS[-1]
    assert found.saved == 2 * 0.8 * FLOPS[-1]  # at the second evaluation after the first step


def test_a_wrong_stop_is_counted() -> None:
    """An arm that loses in its first seed and is far better in the end of the others."""
    arms = {n: [noisy(0.2, s, n) for s in range(3)] for n in ("x", "y")}
    turns = [shifted(0.5), shifted(0.5, 0.5, 0.5, -0.5), shifted(0.5, 0.5, 0.5, -0.5)]
    found = replay(study({"base": [BASE] * 3, **arms, "turns": turns}))
    assert found.wrong == 2
    assert "turns" in found.arms


def test_arms_as_good_as_the_baseline_are_rarely_stopped_and_intervals_hold_what_they_say() -> None:
    total = sum((replay(made(dict.fromkeys("abcd", 0.0), first=10 * n)) for n in range(30)), Count())
    assert total.watched == 30 * 8
    assert total.wrong / total.watched < 0.05
    assert 0.92 < total.held / total.intervals < 0.98


def test_runs_that_diverged_or_were_stopped_have_nothing_to_compare_with() -> None:
    broken: list[float | None] = [*falling(4.0)[:5], *[None] * 6]
    arms = {"base": [BASE] * 2, "nan": [curve_of(broken)] * 2, "a": [shifted(0.3)] * 2}
    assert replay(study(arms)).pairs == 2


def test_a_reference_at_another_budget_is_never_looked_at() -> None:
    arms = {
        n: [noisy(gap, s, n) for s in range(2)] for n, gap in (("base", 0.0), ("a", 0.4), ("b", -0.4), ("far", 3.0))
    }
    alone = replay(study({name: curve for name, curve in arms.items() if name != "far"}))
    beside = study(arms) | {"references": ["far"]}
    assert replay(beside) == alone
    assert every_baseline(beside).pairs == 3 * 2 * 2


def test_every_arm_is_the_baseline_once() -> None:
    results = made({"bad": 0.5, "good": -0.5})
    found = every_baseline(results)
    assert found.pairs == 3 * 2 * 3
    assert found.lost * 2 == found.pairs  # of two arms one loses


def test_the_report_says_what_was_saved_and_what_was_wrong() -> None:
    results = made({"bad": 0.5, "good": -0.5, "better": -0.4})
    results["effects"] = {"bad": {"verdict": "does not hold"}}
    still = made({"x": 0.1}, seeds=1)
    lines = list(report({"one.json": results, "two.json": still}))
    assert "2 of 6 watched runs stopped, 0 of them wrongly" in lines[0]
    assert "17.8 % of the FLOPs" in lines[0]
    assert "bad (does not hold)" in lines[0]
    assert "nothing to replay" in lines[1]
    assert "each arm as the baseline" in lines[-1]
    assert not can_replay(still)
    with pytest.raises(DataError, match="no finished studies"):
        list(report({}))


def test_a_difference_is_at_equal_compute() -> None:
    sparse = [point for k, point in enumerate(shifted(0.3)) if k % 2 == 0]
    assert difference_at(sparse, BASE, 4e12) == pytest.approx(0.3)
    assert difference_at(sparse, BASE, 20e12) is None
