"""From the folders of a study's finished runs to its record, which is written to results.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from warmstart.errors import StateError
from warmstart.finished import read_finished, read_sealed
from warmstart.named_models import named_models
from warmstart.provenance import commit, versions
from warmstart.recipe_file import resolved
from warmstart.recipe_study import Study
from warmstart.studies.curves import curve_of, on_one_held_out_set
from warmstart.studies.tasks import Task
from warmstart.verdict import effects


def collect(study: Study, tasks: list[Task], *, slug: str, scale: str, seeds: int) -> dict[str, Any]:
    """The results of finished runs as a plain dictionary (the form of `report/results.py`)."""
    groups: dict[str, dict[str, list[Task]]] = {"sources": {}, "arms": {}}
    for task in sorted(tasks, key=lambda task: task.seed):
        groups[task.group].setdefault(task.name, []).append(task)
    arms = {name: _arm(members, study.compare.metric) for name, members in groups["arms"].items()}
    sources = {name: _totals([_stages(t) for t in members]) for name, members in groups["sources"].items()}
    last = _stages(groups["arms"][study.compare.baseline][0])[-1]
    record = {
        "slug": slug,
        "title": study.title,
        "family": study.family,
        "idea": study.idea,
        "scale": scale,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "versions": versions(),
        "machine": _machine(groups["arms"][study.compare.baseline][0]) | {"precision": last["precision"]},
        "seeds": list(range(seeds)),
        "metric": study.compare.metric,
        "better": study.compare.better,
        "baseline": study.compare.baseline,
        "references": study.compare.references,
        "paper": study.paper.model_dump(mode="json") if study.paper else None,
        "claim": study.claim.model_dump(mode="json") if study.claim else None,
        "sources": sources,
        "given": _given(study, list(arms)),
        "arms": arms,
        "data": last["data"],
        "recipe": resolved(study),
    }
    record["effects"] = effects(record)
    return record


def _stages(task: Task) -> list[dict[str, Any]]:
    names = [task.recipe.stage_name(n) for n in range(len(task.recipe.stages))]
    try:
        return [read_finished(task.folder / "stages" / n) for n in names]
    except StateError as error:
        mend = f"warmstart run {task.folder / 'recipe.yaml'} --out {task.folder}"
        raise StateError(f"{error}; '{mend}' writes it again from the stage's last state") from error


def _machine(task: Task) -> dict[str, Any]:
    """The machine that carried a run out, which need not be this one."""
    facts = json.loads((task.folder / "run.json").read_text(encoding="utf-8"))
    return dict(facts["machine"])


def _given(study: Study, arms: list[str]) -> dict[str, str]:
    """The sources that arms started from and that the study did not make."""
    started = {name for arm in arms for stage in study.arms[arm] for name in named_models(stage)}
    return {name: model for name, model in study.given_sources.items() if name in started}


def _totals(members: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Compute of runs, one number per seed: the sum over a run's stages."""
    return {
        "flops": [sum(s["flops"] for s in stages) for stages in members],
        "tokens": [sum(s["tokens"] for s in stages) for stages in members],
        "seconds": [round(sum(s["seconds"] for s in stages), 2) for stages in members],
        "peak_memory_bytes": [max(s["peak_memory_bytes"] for s in stages) for stages in members],
        "parameters": members[0][-1]["parameters"],
    }


def _arm(members: list[Task], metric: str) -> dict[str, Any]:
    if any(task.state == "stopped" for task in members):
        return _stopped_arm(members, metric)
    stages = [_stages(task) for task in members]
    curves = [curve_of(task.recipe, task.folder, metric) for task in members]
    further = members[0].recipe.stages[-1].evaluate.also
    lineage = [read_sealed(task.folder / "lineage.json") for task in members]
    return _totals(stages) | {
        "reused_flops": [s[0]["reused_flops"] for s in stages],
        "trial_flops": [s[0]["trial_flops"] for s in stages] if any(s[0]["trial_flops"] for s in stages) else [],
        "final": [curve["values"][-1] for curve in curves],
        "curve": _by_seed([_shown(task, metric, curve) for task, curve in zip(members, curves, strict=True)]),
        "also": {
            name: _by_seed([curve_of(task.recipe, task.folder, f"{name}/loss") for task in members]) for name in further
        },
        "measured": _measured([s[-1]["final"] for s in stages], metric),
        "lineage": lineage,
    }


def _shown(task: Task, metric: str, curve: dict[str, list[float]]) -> dict[str, Any]:
    return curve | {"values": on_one_held_out_set(task.recipe, metric, curve)}


def _measured(finals: list[dict[str, float]], metric: str) -> dict[str, list[float]]:
    """Everything else that was measured at the end, one value per seed."""
    return {name: [final[name] for final in finals] for name in finals[0] if name != metric}


def _stopped_arm(members: list[Task], metric: str) -> dict[str, Any]:
    """An arm of which runs were ended: what those used, their curves so far, and no final metric.

    (Its first seed has always finished.)
    """
    whole = _arm([task for task in members if task.state == "finished"], metric)
    places = iter(range(len(members)))
    numbers = [next(places) if task.state == "finished" else None for task in members]
    stops = [task.stop if task.state == "stopped" else None for task in members]
    curves = [curve_of(task.recipe, task.folder, metric) for task in members]

    def filled(values: list[Any], otherwise: list[Any]) -> list[Any]:
        return [other if n is None else values[n] for n, other in zip(numbers, otherwise, strict=True)]

    nothing: list[Any] = [None] * len(members)
    used = {
        name: filled(whole[name], [getattr(stop, name, None) for stop in stops])
        for name in ("flops", "tokens", "seconds")
    }
    return (
        whole
        | used
        | {
            "peak_memory_bytes": max(whole["peak_memory_bytes"]),
            "reused_flops": filled(whole["reused_flops"], nothing),
            "trial_flops": [curve["flops"][0] for curve in curves] if whole["trial_flops"] else [],
            "final": filled(whole["final"], nothing),
            "curve": _by_seed([_shown(task, metric, curve) for task, curve in zip(members, curves, strict=True)]),
            "also": {
                name: _by_seed([curve_of(task.recipe, task.folder, f"{name}/loss") for task in members])
                for name in whole["also"]
            },
            "measured": {name: filled(values, nothing) for name, values in whole["measured"].items()},
            "lineage": filled(whole["lineage"], [{}] * len(members)),
            "stopped": [None if stop is None else asdict(stop) for stop in stops],
        }
    )


def _by_seed(curves: list[dict[str, list[float]]]) -> dict[str, list[list[float]]]:
    return {key: [curve[key] for curve in curves] for key in ("flops", "tokens", "values")}
