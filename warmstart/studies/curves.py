"""The metric of a run over its stages, from the run's folder."""

from __future__ import annotations

import json
from pathlib import Path

from warmstart.errors import UserError
from warmstart.recipe import Recipe
from warmstart.train.metrics import read_metrics
from warmstart.verdict import Point


def curve_of(recipe: Recipe, folder: Path, metric: str) -> dict[str, list[float]]:
    """The metric over a run's stages so far, against the FLOPs, tokens and seconds since the run's beginning, and
    (`stage`) the number of each point's stage.

    Raises:
        UserError: nothing measured the metric.
    """
    used = ("flops", "tokens", "seconds")
    curve: dict[str, list[float]] = {name: [] for name in (*used, "values", "stage")}
    before = dict.fromkeys(used, 0)
    for number, stage in enumerate(recipe.stages):
        place = folder / "stages" / recipe.stage_name(number)
        for line in read_metrics(place / "metrics.jsonl"):
            if metric not in line:
                continue
            if number and line["step"] == 0 and not stage.surgery:
                continue  # the same weights as at the end of the stage before
            for name in used:
                curve[name].append(before[name] + line[name])
            curve["values"].append(line[metric])
            curve["stage"].append(number)
        if not (place / "stage.json").is_file():
            break
        facts = json.loads((place / "stage.json").read_text(encoding="utf-8"))
        before = {name: before[name] + facts[name] for name in used}
    if not curve["values"]:
        raise UserError(f"the metric '{metric}' is not among what the evaluators of {folder} measure")
    return curve


def on_one_held_out_set(recipe: Recipe, metric: str, curve: dict[str, list[float]]) -> list[float | None]:
    """The values of a curve; None for what was measured on other texts than at its end.

    A stage's own held-out rows (`validation/...`) are other ones where its data are: what a run reached on them before
    says nothing about where it ended.
    """
    if not metric.startswith("validation"):
        return list(curve["values"])
    first = last = int(curve["stage"][-1])
    while first and _held_out(recipe, first - 1) == _held_out(recipe, last):
        first -= 1
    return [value if stage >= first else None for value, stage in zip(curve["values"], curve["stage"], strict=True)]


def _held_out(recipe: Recipe, number: int) -> object:
    data = recipe.stages[number].data
    assert data is not None
    return data.sources, data.split


def points(curve: dict[str, list[float]]) -> list[Point]:
    """A curve as verdicts and forecasts read it."""
    return [{"flops": f, "value": v} for f, v in zip(curve["flops"], curve["values"], strict=True)]
