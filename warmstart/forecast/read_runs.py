"""Curves from what runs leave behind: several runs at growing amounts, or the evaluations of one run.

Several runs, each finished at its own amount, are a learning curve: one point each. The evaluations of one run are one
only while its learning rate stands still: under a schedule that decays, the metric at half of the budget is not what a
run with half of the budget would have reached, and the last stretch bends down in a way that no family here knows. Such
a curve is read, and a note says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from warmstart.errors import DataError, UserError, nearest
from warmstart.forecast import Curve, Kind
from warmstart.recipe_text import read_file
from warmstart.train.metrics import finite, read_metrics
from warmstart.train.schedules import Schedule

Axis = Literal["tokens", "flops", "step"]
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Measured:
    """A curve read from runs, and what a reader should know before believing a forecast of it."""

    curve: Curve
    notes: list[str] = field(default_factory=list)


def read_curve(
    runs: Sequence[Path | str], metric: str = "validation/loss", axis: Axis = "tokens", kind: Kind | None = None
) -> Measured:
    """The curve of a metric over one run's evaluations, or over the ends of several runs.

    Args:
        runs: run folders (the last stage that has been evaluated counts), stage folders or `metrics.jsonl` files.
            Several runs of one amount are several orders of the data; then every amount must have as many.
        kind: default: a loss if the metric falls, else a share if it never leaves [0, 1], else an accuracy in percent.

    Raises:
        DataError: a run has no such metric, or the runs make no curve.
    """
    files = [metrics_file(Path(run)) for run in runs]
    points = {file: _points(file, metric, axis) for file in files}
    if len(files) == 1:
        x, rows = [place for place, _ in points[files[0]]], [[value for _, value in points[files[0]]]]
        notes = [note for note in [_schedule_note(files[0])] if note]
    else:
        ends: dict[float, list[float]] = defaultdict(list)
        for file in files:
            place, value = points[file][-1]
            ends[place].append(value)
        x = sorted(ends)
        counts = {place: len(ends[place]) for place in x}
        if len(set(counts.values())) > 1:
            place = min(x, key=lambda place: counts[place])
            most = max(counts.values())
            raise DataError(
                f"{counts[place]} of the runs end at {place:g} {axis}, {most} at others: give as many of each"
            )
        rows, notes = [list(row) for row in zip(*(ends[place] for place in x), strict=True)], []
    return Measured(Curve.of(x, rows, kind or kind_of(rows[0])), notes)


def metrics_file(path: Path) -> Path:
    """The metrics file of a run, of a stage, or the file itself.

    Raises:
        DataError: there is none.
    """
    if path.is_file():
        return path
    if (path / METRICS).is_file():
        return path / METRICS
    stages = sorted(path.glob(f"stages/*/{METRICS}"))
    if not stages:
        found = "no such file or folder" if not path.exists() else f"no {METRICS} in it, nor in its stages"
        raise DataError(f"{path}: {found}")
    return stages[-1]


def kind_of(values: Sequence[float]) -> Kind:
    """What values that go this way probably are."""
    if not values or values[-1] <= values[0]:
        return "loss"
    return "share" if max(values) <= 1 else "accuracy"


def _points(file: Path, metric: str, axis: Axis) -> list[tuple[float, float]]:
    """(amount, value) at every evaluation after the first step."""
    lines = read_metrics(file)
    found = [line for line in lines if finite(line.get(metric)) is not None]
    if not found:
        known = sorted({name for line in lines for name in line if "/" in name})
        raise DataError(
            f"{file}: there is no metric '{metric}'{nearest(metric, known)}; metrics: {', '.join(known) or 'none'}"
        )
    if any(finite(line.get(axis)) is None for line in found):
        raise DataError(f"{file}: its lines have no '{axis}'")
    points = [(float(line[axis]), float(line[metric])) for line in found if line[axis] > 0]
    if not points:
        raise DataError(f"{file}: '{metric}' was not evaluated after the first step")
    return points


def _schedule_note(file: Path) -> str:
    """Why the evaluations of a run are no learning curve; empty where they are, as far as can be seen."""
    stage = file.parent
    schedule = _schedule(stage)
    if schedule is None:
        return "one run: its evaluations are a learning curve only if its learning rate did not decay"
    if not decays(schedule):
        return ""
    return (
        f"one run whose learning rate decays ({schedule.name}): its evaluations are not a learning curve, each would "
        "need its own finished schedule; take this forecast for a drawing, or give several finished runs"
    )


def _schedule(stage: Path) -> Schedule | None:
    """The schedule of a stage, from its run's recipe."""
    try:
        raw: Any = read_file(stage.parent.parent / "recipe.yaml").values
        given = raw["stages"][int(stage.name.split("-")[0])]["train"]["schedule"]
        return TypeAdapter(Schedule).validate_python(given)
    except (OSError, ValueError, KeyError, IndexError, TypeError, ValidationError, UserError):
        return None


def decays(schedule: Schedule, steps: int = 10_000) -> bool:
    """Whether a schedule's rate ends below its peak."""
    try:
        factors = [schedule.factor(int(steps * k / 100), k / 100, 1 / steps) for k in range(100)]
    except UserError:
        return True
    return factors[-1] < 0.95 * max(factors)
