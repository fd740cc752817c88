"""One small figure of a study's results as SVG: what a reader of the gallery sees of it.

Trained arms are curves of the metric over training FLOPs (mean over seeds, band from the worst to the best seed); rows
that were only measured are bars, with a dot per seed. A file of its own colours that follows light and dark, so that it
can stand in a page, in markdown on a code host, or alone. The same results give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from warmstart.report import numbers
from warmstart.report.charts import curves_chart
from warmstart.report.results import Results

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 172, 34, 44
LINE = 15  # between two labels
COLOURS = 8

STYLE = """
.figure { --card: #ffffff; --ink: #1b1e24; --muted: #59606c; --line: #e2e0da; --baseline: #4b515c;
  --c0: #1767ad; --c1: #bf4e00; --c2: #16794a; --c3: #7544b4; --c4: #b52a78; --c5: #0c7580; --c6: #80591e;
  --c7: #a83232; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
@media (prefers-color-scheme: dark) { .figure { --card: #1b1e25; --ink: #eceae5; --muted: #a5abb7; --line: #30343d;
  --baseline: #b9bec9; --c0: #6db3f2; --c1: #f39a56; --c2: #5ecb92; --c3: #bb9af0; --c4: #f08cc0; --c5: #52c8cf;
  --c6: #d0aa70; --c7: #f08a8a; } }
.figure .card { fill: var(--card); stroke: var(--line); }
.figure text { fill: var(--muted); }
.figure .title { fill: var(--ink); font-weight: 600; }
.figure .name { fill: var(--ink); }
.figure .own { font-weight: 700; }
.figure .grid { stroke: var(--line); }
.figure .target { stroke: var(--baseline); stroke-dasharray: 2 4; }
.figure .mean { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
.figure .own.mean { stroke-width: 2.75; }
.figure .baseline.mean { stroke-dasharray: 6 3; }
.figure .leader { fill: none; stroke-width: 1; opacity: 0.6; }
.figure .band { stroke: none; opacity: 0.14; }
.figure .bar { opacity: 0.35; }
.figure .own.bar { opacity: 0.75; }
.figure .seed { fill: var(--ink); stroke: var(--card); }
""".strip()


def figure(results: Results, own: str | None = None) -> str:
    """The figure of a study, a whole SVG file.

    Args:
        own: the arm that is the paper's method; it is drawn stronger.
    """
    body = _curves(results, own) if results.trained else _bars(results, own)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="{escape(description(results))}">\n<style>\n{STYLE}\n</style>\n'
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>\n{body}\n</svg>\n'
    )


def description(results: Results) -> str:
    """What the figure shows, in words: for those who do not see it."""
    decimals = numbers.metric_decimals([v for arm in results.arms.values() for v in arm.final])
    ends = "; ".join(f"{name} {numbers.mean_and_half(arm.final, decimals)}" for name, arm in results.arms.items())
    kind = "over training FLOPs; it ends at" if results.trained else "of each arm's rows"
    return f"{results.metric} ({results.better} is better) {kind}: {ends}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def spread(places: Sequence[float], low: float, high: float, gap: float = LINE) -> list[float]:
    """Places that are at least `gap` apart (if there is room), each as near to its own as that allows, in its order."""
    gap = min(gap, (high - low) / max(len(places) - 1, 1))
    order = sorted(range(len(places)), key=lambda k: places[k])
    result = [0.0] * len(places)
    at = low - gap
    for k in order:
        at = result[k] = max(places[k], at + gap)
    at = high + gap
    for k in reversed(order):
        at = result[k] = min(result[k], at - gap)
    return result


def _curves(results: Results, own: str | None) -> str:
    chart = curves_chart(results)
    arms = chart["arms"]
    most = max(max(arm["x"]["flops"]) for arm in arms)
    known = [v for arm in arms for v in (*arm["low"], *arm["high"]) if v is not None]
    low, high = chart["range"] or ((min(known), max(known)) if known else (0.0, 1.0))
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(flops: float) -> float:
        return LEFT + (right - LEFT) * flops / most

    def y(value: float) -> float:
        return floor - (floor - TOP) * (value - low) / ((high - low) or 1)

    pieces = [_title(results)]
    marks = ticks(low, high)
    decimals = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9)) if len(marks) > 1 else 2
    for mark in marks:
        pieces.append(f'<path class="grid" d="M{LEFT} {y(mark):.1f}H{right}"/>')
        pieces.append(_text(LEFT - 8, y(mark) + 4, f"{mark:.{decimals}f}".replace("-", "−"), anchor="end"))
    for mark in ticks(0, 1.01 * most):  # a budget of 4 T is used up to 3.99 T
        pieces.append(_text(x(mark), floor + 18, _amount(mark), anchor="middle"))
    pieces.append(_text((LEFT + right) / 2, floor + 35, "training FLOPs", anchor="middle"))
    clip = f"plot-{_slug(results.slug)}"
    pieces.append(f'<clipPath id="{clip}"><rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{floor - TOP}"/>')
    pieces.append(f'</clipPath><g clip-path="url(#{clip})">')
    if chart["target"] is not None:
        pieces.append(f'<path class="target" d="M{LEFT} {y(chart["target"]):.1f}H{right}"/>')
    for arm in sorted(arms, key=lambda arm: arm["name"] == own):  # the strong one last, on top
        pieces += _curve(arm, own, x, y)
    pieces.append("</g>")
    ends = [next((v for v in reversed(arm["mean"]) if v is not None), None) for arm in arms]
    labelled = [(arm, y(min(max(end, low), high))) for arm, end in zip(arms, ends, strict=True) if end is not None]
    places = spread([place for _, place in labelled], TOP + 6, floor - 2)
    for (arm, place), label in zip(labelled, places, strict=True):
        pieces.append(
            f'<path class="leader" style="stroke:{_colour(arm)}" '
            f'd="M{x(arm["x"]["flops"][-1]) + 2:.1f} {place:.1f}L{right + 14} {label:.1f}"/>'
        )
        pieces.append(_name(right + 18, label + 4, arm, own))
    return "\n".join(pieces)


def _curve(arm: dict[str, Any], own: str | None, x: Any, y: Any) -> list[str]:
    points = [
        (x(flops), y(mean), y(low), y(high))
        for flops, mean, low, high in zip(arm["x"]["flops"], arm["mean"], arm["low"], arm["high"], strict=True)
        if mean is not None
    ]
    if not points:
        return []
    line = "L".join(f"{px:.1f} {py:.1f}" for px, py, _, _ in points)
    upper = [f"{px:.1f} {top:.1f}" for px, _, _, top in points]
    lower = [f"{px:.1f} {bottom:.1f}" for px, _, bottom, _ in reversed(points)]
    return [
        f'<path class="band" style="fill:{_colour(arm)}" d="M{"L".join([*upper, *lower])}Z"/>',
        f'<path class="{_classes(arm, own)} mean" style="stroke:{_colour(arm)}" d="M{line}"/>',
    ]


def _bars(results: Results, own: str | None) -> str:
    decimals = numbers.metric_decimals([v for arm in results.arms.values() for v in arm.final])
    left, right, floor = 150, WIDTH - 112, HEIGHT - BOTTOM
    known = [v for arm in results.arms.values() for v in arm.final if v is not None] or [0.0]
    low, high = min(0.0, *known), max(0.0, *known) or 1.0

    def x(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    pieces = [_title(results)]
    for mark in ticks(low, high):
        pieces.append(f'<path class="grid" d="M{x(mark):.1f} {TOP + 4}V{floor}"/>')
        pieces.append(_text(x(mark), floor + 18, f"{mark:g}".replace("-", "−"), anchor="middle"))
    slot = (floor - TOP - 8) / len(results.arms)
    thick = min(34.0, 0.62 * slot)
    for number, (name, arm) in enumerate(results.arms.items()):
        middle = TOP + 8 + slot * (number + 0.5)
        drawn = {"name": name, "index": number, "baseline": name == results.baseline}
        mean = numbers.mean_of(arm.final)
        pieces.append(_name(left - 10, middle + 4, drawn, own, anchor="end"))
        if mean is not None:
            start, end = sorted((x(0.0), x(mean)))
            pieces.append(
                f'<rect class="{_classes(drawn, own)} bar" style="fill:{_colour(drawn)}" x="{start:.1f}" '
                f'y="{middle - thick / 2:.1f}" width="{end - start:.1f}" height="{thick:.1f}" rx="3"/>'
            )
        seeds = [value for value in arm.final if value is not None]
        for k, value in enumerate(seeds):
            at = middle + (k - (len(seeds) - 1) / 2) * thick / (len(seeds) + 1)
            pieces.append(f'<circle class="seed" cx="{x(value):.1f}" cy="{at:.1f}" r="3.5"/>')
        text = numbers.mean_and_half(arm.final, decimals)
        pieces.append(_text(max(map(x, seeds), default=left) + 10, middle + 4, text))
    return "\n".join(pieces)


def _title(results: Results) -> str:
    seeds = len(results.seeds)
    drawn = f", {seeds} seeds" if seeds > 1 else ", one seed"
    text = f"{results.metric} ({results.better} is better), scale {results.scale}{drawn}"
    return f'<text class="title" x="16" y="22">{escape(text)}</text>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _name(x: float, y: float, arm: dict[str, Any], own: str | None, anchor: str = "start") -> str:
    text = arm["name"] + (" (baseline)" if arm["baseline"] and len(arm["name"]) < 12 else "")
    text = text if len(text) <= 22 else text[:21] + "…"
    return (
        f'<text class="{_classes(arm, own)} name" style="fill:{_colour(arm)}" x="{x:.1f}" y="{y:.1f}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _classes(arm: dict[str, Any], own: str | None) -> str:
    return "own" if arm["name"] == own else "baseline" if arm["baseline"] else "other"


def _colour(arm: dict[str, Any]) -> str:
    return "var(--baseline)" if arm["baseline"] else f"var(--c{arm['index'] % COLOURS})"


def _amount(flops: float) -> str:
    """A tick's amount of FLOPs without needless digits: `2 T`, `2.5 T`."""
    number, _, prefix = numbers.scaled(flops).partition(" ")
    shown = f"{float(number):g}"
    return f"{shown} {prefix}".strip()


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c == "-" else "-" for c in text)
