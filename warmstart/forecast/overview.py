"""What the command line says of a forecast, and of stopping by forecast."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from rich.markup import escape
from rich.table import Table

from warmstart.errors import DataError, UserError
from warmstart.forecast import CEILING, Curve, Forecaster, Kind, NotYet, Prediction
from warmstart.forecast.learning_curve import Fitted
from warmstart.forecast.read_runs import Axis, read_curve
from warmstart.forecast.replay import report
from warmstart.part import find

SHOWN_LEVELS = 14
BAR = 24


def of_runs(
    runs: Sequence[Path],
    metric: str,
    axis: Axis,
    kind: Kind | None,
    *,
    forecaster: str,
    at: Sequence[float],
    goal: float | None,
    tolerance: float | None,
) -> Iterator[str | Table]:
    """A table of the curve and the forecast in words; the settings are those of `lines` and `read_curve`.

    Raises:
        RecipeError: there is no such forecaster.
        DataError: the runs make no curve.
    """
    chosen = cast(Forecaster, find("forecast", forecaster)())
    read = read_curve(runs, metric, axis, kind)
    yield table(read.curve, chosen, axis)
    for note in read.notes:
        yield f"note: {escape(note)}"
    for line in lines(read.curve, chosen, axis, at=at, goal=goal, tolerance=tolerance):
        yield escape(line)


def replayed(folder: Path) -> Iterator[str]:
    """What replaying the results below a folder (or of one file) says.

    Raises:
        DataError: there are none, or one is broken.
    """
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.json"))
    studies: dict[str, Any] = {}
    for file in files:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read: {error}") from None
        if isinstance(found, dict) and {"arms", "seeds", "baseline"} <= set(found):
            studies[str(file.relative_to(folder)) if file != folder else file.name] = found
    if not studies:
        raise DataError(f"{folder}: no results of a study in it")
    yield from (escape(line) for line in report(studies))


def table(curve: Curve, forecaster: Forecaster, axis: str) -> Table:
    """The curve, its last trend beside it, and bars: how far each level is from the first value to the limit."""
    result = Table(box=None, padding=(0, 1), show_edge=False)
    for heading in ("level", axis, "measured", "trend", "left", ""):
        result.add_column(heading, justify="left" if not heading else "right")
    trend = forecaster.trend(curve) if isinstance(forecaster, Fitted) else None
    mean = curve.mean
    end = trend.limit if trend is not None and trend.limit is not None else float(mean[-1])
    whole = (end - mean[0]) or 1.0
    for level in shown(curve.levels):
        amount, value = float(curve.x[level - 1]), float(mean[level - 1])
        filled = round(BAR * min(1.0, max(0.0, (value - mean[0]) / whole)))
        fitted = ("", "") if trend is None else (f"{float(trend.at(amount)):.4g}", f"{trend.left(amount):.3g}")
        result.add_row(str(level), f"{amount:,.4g}", f"{value:.4g}", *fitted, "█" * filled + "·" * (BAR - filled))
    return result


def shown(levels: int) -> list[int]:
    """At most some levels, evenly spread, the first and the last among them."""
    if levels <= SHOWN_LEVELS:
        return list(range(1, levels + 1))
    return sorted({round(1 + k * (levels - 1) / (SHOWN_LEVELS - 1)) for k in range(SHOWN_LEVELS)})


def lines(
    curve: Curve,
    forecaster: Forecaster,
    axis: str,
    *,
    at: Sequence[float] = (),
    goal: float | None = None,
    tolerance: float | None = None,
) -> Iterator[str]:
    """The forecast in words.

    Args:
        at: amounts to forecast; default: twice and ten times what was measured.
        goal: a value: how much is needed to reach it?
        tolerance: in the metric's unit: where could one stop?
    """
    last = float(curve.x[-1])
    for amount in at or (2 * last, 10 * last):
        found = forecaster.forecast(curve, amount)
        yield f"at {amount:,.6g} {axis}: {described(found, forecaster)}"
        if isinstance(found, NotYet):
            return
    if isinstance(forecaster, Fitted):
        trend = forecaster.trend(curve)
        limit = "no limit" if trend.limit is None else f"limit {trend.limit:.4g}, {trend.left(last):.3g} left to gain"
        yield f"{limit} (fitted to {curve.levels} points; residuals up to {residual(curve, forecaster):.2g})"
        if goal is not None:
            ceiling = CEILING.get(curve.kind)
            if goal < 0 or (ceiling is not None and goal > ceiling):
                raise UserError(f"--goal: found {goal:g}; values of the kind '{curve.kind}' cannot be that")
            needed = trend.data_needed(goal)
            yield f"{goal:g} needs {needed:,.4g} {axis}" if needed is not None else f"{goal:g} is never reached"
    elif goal is not None:
        raise UserError(f"--goal: the forecaster '{forecaster.name}' has no curve that could reach a goal")
    if tolerance is not None:
        level = forecaster.stop_level(curve, tolerance)
        place = "not yet" if level is None else f"level {level}, {curve.x[level - 1]:,.6g} {axis}"
        yield f"at most {tolerance:g} left to gain from: {place}"


def described(found: Prediction | NotYet, forecaster: Forecaster) -> str:
    """`3.41 [3.38, 3.45]`, or why not."""
    if isinstance(found, NotYet):
        return f"no forecast yet: {found.reason}"
    percent = f"{100 * forecaster.confidence:g} %"
    return f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}] ({percent})"


def residual(curve: Curve, forecaster: Fitted) -> float:
    """The largest distance between a measured point and the trend."""
    return float(abs(curve.mean - forecaster.trend(curve).at(curve.x)).max())
