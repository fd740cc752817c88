"""Ending a run once its arm cannot win (`compare: {stop: forecast}`, `forecast/stopping.py`).

All that a decision stands on is fixed when the run begins, and the same whoever runs what where: the baseline of its
seed and the pairs of all earlier seeds (`Task.after`), which have finished by then. So a study on a cluster stops the
same runs at the same steps as one on a laptop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from warmstart.forecast.stopping import Pair, Stopped, Watch, save_stop
from warmstart.recipe import Recipe
from warmstart.recipe_study import Study
from warmstart.studies.curves import curve_of, points
from warmstart.studies.tasks import Task
from warmstart.train.progress import Reporter


def watch_of(task: Task, study: Study) -> Watch | None:
    """What decides about a run that is about to begin; None where nothing could be decided."""
    if not task.after:
        return None
    metric, base = study.compare.metric, study.compare.baseline
    done = {(t.name, t.seed): t for t in task.after if t.state == "finished"}
    curves = {key: points(curve_of(t.recipe, t.folder, metric)) for key, t in sorted(done.items())}
    reference = {seed: curve for (name, seed), curve in curves.items() if name == base}
    pairs = [Pair(name, seed, curve, reference[seed]) for (name, seed), curve in curves.items() if name != base]
    return Watch(task.name, reference[task.seed], pairs, study.compare.better)


class Watched(Reporter):
    """Ends the run at an evaluation by which its arm cannot win: there and then, so that the same run always ends at
    the same step."""

    def __init__(self, told: Reporter, watch: Watch, metric: str, recipe: Recipe, folder: Path) -> None:
        self.told, self.watch, self.metric, self.recipe, self.folder = told, watch, metric, recipe, folder

    def event(self, kind: str, **values: Any) -> None:
        self.told.event(kind, **values)
        if kind != "evaluation" or self.metric not in values["values"]:
            return
        curve = curve_of(self.recipe, self.folder, self.metric)
        stop = self.watch.decide(points(curve), tokens=curve["tokens"][-1], seconds=curve["seconds"][-1])
        if stop is not None:
            save_stop(self.folder, stop)
            raise Stopped

    def close(self) -> None:
        self.told.close()
