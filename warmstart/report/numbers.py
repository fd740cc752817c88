"""Numbers as people read them: FLOPs, seconds, bytes, and means with an interval.

One way of writing each quantity, so that terminal, markdown and page agree. A missing number is an en dash.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from warmstart.verdict import interval

MISSING = "–"


def scaled(value: float | None, unit: str = "") -> str:
    """`3.0e13` as `30.0 T` (with a unit: `30.0 TFLOP`): three digits and an SI prefix."""
    if value is None or not math.isfinite(value):
        return MISSING
    power = 0
    while abs(value) >= 999.5 and power < 7:
        value, power = value / 1000, power + 1
    prefix = ["", "k", "M", "G", "T", "P", "E", "Z"][power]
    number = f"{value:.{_decimals(value)}f}" if power or value % 1 else f"{value:.0f}"
    return f"{number} {prefix}{unit}".rstrip()


def flops(value: float | None) -> str:
    """An amount of compute, e.g. `30.0 TFLOP` (a count of operations, not a rate)."""
    return scaled(value, "FLOP")


def size(count: float | None) -> str:
    """Bytes in powers of 1024, e.g. `1.9 GiB`."""
    if count is None:
        return MISSING
    power = 0
    while abs(count) >= 1024 and power < 4:
        count, power = count / 1024, power + 1
    return f"{count:.1f} {['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}" if power else f"{count:.0f} B"


def duration(seconds: float | None) -> str:
    """Seconds as `8.3 s`, `4 min 10 s` or `2 h 05 min`."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def signed(value: float, decimals: int) -> str:
    """A number with its sign, the minus a real one."""
    text = f"{value:+.{decimals}f}"
    return text.replace("-", "−")


def percent(share: float | None, decimals: int = 0) -> str:
    """`0.35` as `35 %`."""
    if share is None:
        return MISSING
    return f"{round(100 * share, decimals) + 0.0:.{decimals}f} %".replace("-", "−")


def metric_decimals(values: Sequence[float | None]) -> int:
    """Decimals that show a metric of this size with four significant digits, from 1 to 5."""
    known = [abs(v) for v in values if v and math.isfinite(v)]
    return min(max(3 - math.floor(math.log10(max(known))), 1), 5) if known else 3


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean, or `None` where a value is missing."""
    return interval(values)["mean"]


def per_seed(values: Sequence[float] | float | None) -> list[float]:
    """A number or a list of numbers as a list."""
    if values is None:
        return []
    return [values] if isinstance(values, int | float) else list(values)


def mean_and_half(values: Sequence[float | None], decimals: int) -> str:
    """`3.812 ± 0.021`: mean and half of the 95 % interval; no interval with one value."""
    found = interval(values)
    if found["mean"] is None:
        known = sum(v is not None for v in values)
        return MISSING if not known else f"finite in {known} of {len(values)}"
    text = f"{found['mean']:.{decimals}f}".replace("-", "−")
    return text if found["high"] is None else f"{text} ± {found['high'] - found['mean']:.{decimals}f}"


def _decimals(value: float) -> int:
    return max(0, 2 - math.floor(math.log10(abs(value)))) if abs(value) >= 1 else 2
