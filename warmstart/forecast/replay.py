"""How often stopping by forecast would have been wrong: finished studies, decided again from their curves.

A study is replayed seed by seed as `compare: {stop: forecast}` would have carried it out: at each evaluation of an arm
the same decision is made from the same numbers, and what a stopped run would have done afterwards is in the file. A
stop was *wrong* if that pair ended with the arm better than the baseline. A study has one baseline and few arms that
lose, so each other arm is taken for the baseline in turn too: many more pairs, though not independent ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from warmstart.errors import DataError
from warmstart.forecast import Prediction
from warmstart.forecast.stopping import Pair, Watch, final_difference
from warmstart.verdict import Better, Point, curves


@dataclass
class Count:
    """What a replay found; counts of pairs (an arm and the baseline at one seed).

    Attributes:
        pairs: all of them.
        lost: pairs that the arm ended worse, or no better.
        watched: pairs about which there could have been a forecast (not the first seed's).
        watched_lost: of these, pairs that the arm ended worse.
        stopped: pairs that would have been ended.
        wrong: of these, pairs that the arm ended better.
        intervals, held: forecasts at evaluations, and how many of their intervals held what came.
        flops, saved: what all arms but the baseline trained, and what would not have been trained.
        arms: those of which a run would have been ended.
    """

    pairs: int = 0
    lost: int = 0
    watched: int = 0
    watched_lost: int = 0
    stopped: int = 0
    wrong: int = 0
    intervals: int = 0
    held: int = 0
    flops: float = 0.0
    saved: float = 0.0
    arms: tuple[str, ...] = ()

    def __add__(self, other: Count) -> Count:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Count)}
        return Count(**sums | {"arms": tuple(dict.fromkeys(sums["arms"]))})


def replay(results: Mapping[str, Any], baseline: str | None = None) -> Count:
    """Replays one study.

    Args:
        results: the JSON form of a results file.
        baseline: default: the study's own.
    """
    baseline = baseline or results["baseline"]
    found = judged(results)
    better, count = results["better"], Count()
    finished: list[Pair] = []
    for seed in range(len(results["seeds"])):
        kept: list[Pair] = []
        for arm in found:
            if arm == baseline:
                continue
            pair = Pair(arm, seed, found[arm][seed], found[baseline][seed])
            if (
                final_difference(pair.own, pair.baseline) is None
            ):  # diverged, or stopped already: nothing to compare with
                continue
            here, stopped = _one(pair, finished, better)
            count = count + here
            if not stopped:
                kept.append(pair)
        finished += kept  # a seed's pairs are known to later seeds only
    return count


def _one(pair: Pair, finished: Sequence[Pair], better: Better) -> tuple[Count, bool]:
    end = final_difference(pair.own, pair.baseline)
    assert end is not None
    lost = end >= 0 if better == "lower" else end <= 0
    count = Count(pairs=1, lost=lost, flops=pair.own[-1]["flops"])
    watch = Watch(pair.arm, pair.baseline, finished, better)
    stop = None
    for place, point in enumerate(pair.own):
        if not 0 < point["flops"] < 0.99 * pair.baseline[-1]["flops"]:
            continue
        _, forecast = watch.forecast(point["flops"], point["value"])
        if isinstance(forecast, Prediction):
            count.intervals += 1
            count.held += forecast.low <= end <= forecast.high
        stop = stop or watch.decide(pair.own[: place + 1])
    if count.intervals:
        count.watched, count.watched_lost = 1, int(lost)
    if stop is not None:
        count.stopped, count.wrong = 1, int(not lost)
        count.saved, count.arms = pair.own[-1]["flops"] - stop.flops, (pair.arm,)
    return count, stop is not None


def every_baseline(results: Mapping[str, Any]) -> Count:
    """Replays a study with each of its arms as the baseline."""
    return sum((replay(results, arm) for arm in judged(results)), Count())


def judged(results: Mapping[str, Any]) -> dict[str, list[list[Point]]]:
    """The curves of the arms at equal compute: all but the references."""
    return {name: curves(arm) for name, arm in results["arms"].items() if name not in results.get("references", ())}


def can_replay(results: Mapping[str, Any]) -> bool:
    """Whether a study trained its arms at several seeds."""
    return len(results["seeds"]) > 1 and any(flops > 0 for arm in results["arms"].values() for flops in arm["flops"])


def report(studies: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What replaying finished studies says, in words.

    Args:
        studies: results in their JSON form, by a name to show.

    Raises:
        DataError: there are none.
    """
    if not studies:
        raise DataError("there are no finished studies to replay")
    own, every = Count(), Count()
    for name, results in studies.items():
        if not can_replay(results):
            yield f"{name}: nothing to replay (it did not train, or at one seed only)"
            continue
        found = replay(results)
        own, every = own + found, every + every_baseline(results)
        verdicts = [f"{arm} ({results['effects'].get(arm, {}).get('verdict', 'none')})" for arm in found.arms]
        yield f"{name}: {_words(found)}" + (
            f"; stopped arms and their full verdicts: {', '.join(verdicts)}" if verdicts else ""
        )
    yield f"all studies, their own baselines: {_words(own)}"
    yield f"all studies, each arm as the baseline in turn: {_words(every)}"


def _words(count: Count) -> str:
    if not count.watched:
        return (
            "no run could be watched (the rule needs a finished seed of the arm, and three finished pairs of one seed)"
        )
    share, held = count.saved / count.flops, count.held / count.intervals
    return (
        f"{count.stopped} of {count.watched} watched runs stopped, {count.wrong} of them wrongly "
        f"({count.watched_lost} of the watched lost in the end); {100 * share:.1f} % of the FLOPs of the arms saved; "
        f"the interval held what came in {100 * held:.1f} % of {count.intervals} forecasts"
    )
