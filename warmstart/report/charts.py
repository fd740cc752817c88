"""What the page's charts show, as plain data; `page.js` draws it with plotly in the reader's colours.

A chart is a mapping that JSON can hold. Python decides everything that has a meaning (means, bands, ranges,
labels), JavaScript only what depends on the reader (colours, width, which axis is chosen).
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any, Literal

from warmstart.report import numbers, table
from warmstart.report.results import Arm, Results
from warmstart.train.metrics import finite

Axis = Literal["flops", "tokens"]
AXIS_TITLES = {"flops": "training FLOPs", "tokens": "training tokens", "step": "steps"}


def curves_chart(results: Results) -> dict[str, Any]:
    """The arms' curves: the mean over seeds and the band from the worst to the best seed, on both axes.

    `range` is the zoomed vertical range: from a little past the best end to the baseline after a third of its
    budget. It goes further for an arm that starts not far above (a grown arm's start is worth seeing), and so
    that the second half of every arm is in sight, also of one that is worse.
    """
    arms = [
        {
            "name": name,
            "baseline": name == results.baseline,
            "index": number,
            "x": {axis: _band(arm, axis)["x"] for axis in ("flops", "tokens")},
            **{key: _band(arm, "flops")[key] for key in ("mean", "low", "high")},
        }
        for number, (name, arm) in enumerate(results.arms.items())
    ]
    target = numbers.mean_of(results.arms[results.baseline].final) if results.baseline in results.arms else None
    return {
        "kind": "curves",
        "metric": results.metric,
        "decimals": _decimals(results),
        "axes": AXIS_TITLES,
        "arms": arms,
        "target": target,
        "baseline": results.baseline,
        "range": _zoom(results, arms),
    }


def _decimals(results: Results) -> int:
    return numbers.metric_decimals([v for arm in results.arms.values() for v in arm.final])


def _band(arm: Arm, axis: Axis) -> dict[str, list[float | None]]:
    """Mean, lowest and highest value over the seeds at every evaluation.

    Seeds may be evaluated at slightly different FLOPs (where a step's compute is drawn at random): evaluation k
    of one seed is put together with evaluation k of the others, at their mean FLOPs. Where even the number of
    evaluations differs, the other seeds are interpolated at the first one's evaluations. Where a run was stopped, the
    mean of the seeds that went on would jump: the arm ends there.
    """
    seeds = range(len(arm.curve.values))
    xs = [arm.curve.axis(axis, seed) for seed in seeds]
    values = [list(arm.curve.values[seed]) for seed in seeds]
    if len({len(x) for x in xs}) > 1:
        values = [_interpolated(x, v, xs[0]) for x, v in zip(xs, values, strict=True)]
        xs = [xs[0]] * len(xs)
    band: dict[str, list[float | None]] = {"x": [], "mean": [], "low": [], "high": []}
    for k in range(len(xs[0])):
        known = [v[k] for v in values if v[k] is not None]
        if any(arm.stopped) and len(known) < len(values):
            break
        band["x"].append(sum(x[k] for x in xs) / len(xs))
        band["mean"].append(sum(known) / len(known) if known else None)  # type: ignore[arg-type]
        band["low"].append(min(known) if known else None)  # type: ignore[type-var]
        band["high"].append(max(known) if known else None)  # type: ignore[type-var]
    return band


def _interpolated(x: Sequence[float], values: Sequence[float | None], at: Sequence[float]) -> list[float | None]:
    """Values at other places; `None` outside of what was measured and beside what was not finite."""
    found: list[float | None] = []
    for place in at:
        right = bisect.bisect_left(x, place)
        if right < len(x) and x[right] == place:
            found.append(values[right])
            continue
        if right in (0, len(x)):
            found.append(None)
            continue
        before, after = values[right - 1], values[right]
        if before is None or after is None:
            found.append(None)
            continue
        share = (place - x[right - 1]) / (x[right] - x[right - 1])
        found.append(before + share * (after - before))
    return found


def _zoom(results: Results, arms: Sequence[dict[str, Any]]) -> list[float] | None:
    sign = 1.0 if results.better == "lower" else -1.0
    ends = [sign * v for arm in arms for v in (arm["low"][-1], arm["high"][-1]) if v is not None]
    baseline = next((arm for arm in arms if arm["baseline"]), None)
    if not ends or baseline is None:
        return None
    known = [(x, sign * v) for x, v in zip(baseline["x"]["flops"], baseline["mean"], strict=True) if v is not None]
    if len(known) < 2:
        return None
    third = next((v for x, v in known if x >= known[-1][0] / 3), known[-1][1])
    best = min(ends)
    starts = [sign * arm["mean"][0] for arm in arms if not arm["baseline"] and arm["mean"][0] is not None]
    near = [start for start in starts if start - best <= 2 * (third - best)]
    halves = [sign * v for arm in arms if (v := arm["mean"][len(arm["mean"]) // 2]) is not None]
    worst = max([third, *near, *halves, *ends])
    pad = 0.08 * (worst - best) or 0.05 * abs(best) or 1.0
    return sorted([sign * (best - pad), sign * (worst + pad)])


def savings_chart(results: Results) -> dict[str, Any]:
    """Each arm's saving, without and with what it reused, and the paper's number."""
    arms = []
    for number, name in enumerate(results.arms):
        effect = results.effects.get(name)
        if effect is None:
            continue
        arms.append(
            {
                "name": name,
                "index": number,
                "verdict": effect.verdict,
                "saving": effect.saving.model_dump(),
                "with_source": effect.saving_with_source.model_dump(),
                "text": table.saving(effect.saving),
                "text_with_source": table.saving(effect.saving_with_source),
            }
        )
    claimed = table.claimed_saving(results.claim)
    return {
        "kind": "savings",
        "arms": arms,
        "claimed": claimed,
        "claimed_text": f"paper: {numbers.percent(claimed)}" if claimed is not None else "",
    }


def run_charts(stages: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """The charts of a run: one per logged quantity, over all stages one after the other.

    Args:
        stages: name and lines of metrics.jsonl of each stage. Counters begin at 0 in each; charts count on.

    Returns:
        Charts with `series` (name, stage index, `x` per axis, `y`) and the `borders` between stages.
    """
    counters = ("step", "tokens", "flops")
    before = dict.fromkeys(counters, 0.0)
    series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    borders: list[dict[str, Any]] = []
    for index, (stage, lines) in enumerate(stages):
        if index:
            borders.append({"stage": stage, **before})
        for line in lines:
            for key, value in line.items():
                if (
                    key in (*counters, "seconds")
                    or isinstance(value, bool)
                    or not isinstance(value, int | float | None)
                    or (value is not None and finite(value) is None)
                ):
                    continue
                kind = _chart_of(key)
                runs = series.setdefault((kind, key), [])
                if not runs or runs[-1]["stage"] != index:
                    runs.append(
                        {
                            "name": key,
                            "stage": index,
                            "stage_name": stage,
                            "x": {c: [] for c in counters},
                            "y": [],
                        }
                    )
                for counter in counters:
                    runs[-1]["x"][counter].append(before[counter] + (finite(line.get(counter)) or 0))
                runs[-1]["y"].append(value)
        for counter in counters:
            before[counter] += max((finite(line.get(counter)) or 0 for line in lines), default=0)
    charts: dict[str, dict[str, Any]] = {}
    for (kind, _), runs in series.items():
        if not any(y is not None for run in runs for y in run["y"]):
            continue
        chart = charts.setdefault(
            kind, {"kind": "run", "title": kind, "axes": AXIS_TITLES, "borders": borders, "series": []}
        )
        chart["series"] += runs
    for shown in charts.values():
        values = [y for run in shown["series"] for y in run["y"] if y is not None]
        # Perplexity falls from thousands to tens: on a straight scale its end would be a flat line.
        shown["logarithmic"] = min(values) > 0 and max(values) / min(values) > 30
    return sorted(charts.values(), key=lambda chart: (chart["title"] != "loss", "/" in chart["title"]))


def _chart_of(key: str) -> str:
    """Training loss and the losses of all held-out sets share a chart, so that what a run forgets stands beside what it
    learns; every other quantity (also the loss of one source) has one of its own."""
    return "loss" if key == "loss" or (key.endswith("/loss") and key.count("/") == 1) else key
