"""Studies without training (`compare.at: no-training`): arms are ways to make rows, and what is compared is the rows.

Each arm's stage has `data` and evaluators that read rows. The seed of a run is that of every draw in the arm's
curation (steps with a field `seed`); the rows that are read are the same for all. Effects are paired differences with
their interval, as in every study; there are no FLOPs, so there is no saving.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from warmstart.data.curated import curation_key
from warmstart.data.engine import Engine
from warmstart.errors import UserError
from warmstart.provenance import commit, machine, versions
from warmstart.recipe_file import resolved
from warmstart.report.results import Results
from warmstart.train.compute import peak_memory_bytes

if TYPE_CHECKING:
    from warmstart.recipe_stage import Stage
    from warmstart.recipe_study import Study


def measure(
    study: Study,
    arms: list[str],
    seeds: int,
    *,
    slug: str,
    scale: str,
    console: Console,
    engine: Engine | None = None,
    cache_dir: Path | None = None,
) -> Results:
    """Makes the rows of every arm at every seed and measures them.

    Raises:
        DataError: rows cannot be read or made.
        UserError: no evaluator measures the study's metric.
    """
    measured: dict[str, list[dict[str, float]]] = {}
    seconds: dict[str, list[float]] = {}
    for arm in arms:
        measured[arm], seconds[arm] = [], []
        for seed in range(seeds):
            start = time.monotonic()
            measured[arm].append(values_of(study.recipe(arm, seed).stages[0], engine, cache_dir, console))
            seconds[arm].append(round(time.monotonic() - start, 2))
            value = measured[arm][-1].get(study.compare.metric)
            if value is None:
                known = ", ".join(measured[arm][-1])
                raise UserError(f"compare.metric: '{study.compare.metric}' is not measured; measured: {known}")
            console.print(f"{arm} (seed {seed}): {study.compare.metric} {value:.4f}", highlight=False, markup=False)
    data = study.recipe(study.compare.baseline, 0).stages[0].data
    assert data is not None
    return Results.build(
        slug=slug,
        title=study.title,
        family=study.family,
        idea=study.idea,
        scale=scale,
        date=datetime.now(UTC).date().isoformat(),
        commit=commit(),
        versions=versions(),
        machine=machine(),
        seeds=list(range(seeds)),
        metric=study.compare.metric,
        better=study.compare.better,
        baseline=study.compare.baseline,
        paper=study.paper.model_dump(mode="json") if study.paper else None,
        claim=study.claim.model_dump(mode="json") if study.claim else None,
        arms={arm: _arm(measured[arm], seconds[arm], study.compare.metric) for arm in arms},
        data={"fingerprint": curation_key(data), "statistics": {}},
        recipe=resolved(study),
    )


def values_of(
    stage: Stage, engine: Engine | None, cache_dir: Path | None, console: Console | None = None
) -> dict[str, float]:
    """What a stage's evaluators find in its rows."""
    assert stage.data is not None
    values: dict[str, float] = {}
    notify = None if console is None else (lambda line: console.print(line, highlight=False, markup=False))
    for evaluator in stage.evaluate.evaluators:
        values |= evaluator.evaluate_rows(stage.data, engine=engine, cache_dir=cache_dir, notify=notify)
    return values


def _arm(measured: list[dict[str, float]], seconds: list[float], metric: str) -> dict[str, Any]:
    """The form of a results file: a curve of one point, before the first of no steps."""
    nothing = [0.0] * len(measured)
    final = [values[metric] for values in measured]
    return {
        "flops": nothing,
        "tokens": nothing,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "final": final,
        "curve": {"flops": [0.0], "tokens": [0.0], "values": [[value] for value in final]},
        "measured": {name: [values[name] for values in measured] for name in measured[0]},
    }
