"""Arms x seeds at equal compute, each in a process of its own, then effect, interval and verdict.

Every arm of a seed sees the same data in the same order, the same held-out blocks and the same schedule family, and
stops at the same number of training FLOPs. Source models are trained once per seed (not once for all): otherwise the
luck of one source would look like an effect of the method.

On a CPU the arms run side by side, one core each: two small models on one core each finish sooner than one model on
two cores. Seconds in the result are therefore those of a machine that does several things at once.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from warmstart.data.engine import Engine
from warmstart.disk import write_whole
from warmstart.errors import Interrupted, RecipeError, UserError, nearest
from warmstart.recipe import Compare, Recipe, Stage, Study, Tokenizer
from warmstart.recipe_file import resolved
from warmstart.train.metrics import read_metrics
from warmstart.train.progress import Reporter


@dataclass
class Task:
    """One recipe at one seed: an arm, or a source model that arms start from."""

    group: str
    name: str
    seed: int
    recipe: Recipe
    folder: Path
    needs: list[Path] = field(default_factory=list)
    state: str = "waiting"
    shown: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name} (seed {self.seed})"

    @property
    def finished(self) -> bool:
        last = len(self.recipe.stages) - 1
        return (self.folder / "stages" / self.recipe.stage_name(last) / "stage.json").is_file()


def study(
    study: Study,
    *,
    slug: str,
    scale: str,
    out: Path | str,
    seeds: int | None = None,
    arms: list[str] | None = None,
    jobs: int | None = None,
    resume: bool = True,
    results: Path | str | None = None,
    console: Console | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Carries a study out in the folder `out` and returns its results.

    Args:
        seeds: how many seeds, 0 to seeds - 1; default: the study's own number.
        arms: only these arms; the baseline is always among them.
        jobs: runs at a time; default: one per core on a CPU, one on an accelerator.
        resume: False starts again from nothing.
        results: also write the results to `results/<family>/<slug>.json` below this folder.
        engine: where the row steps run.

    Returns:
        The results as they are written to `out/results.json`.

    Raises:
        UserError: an unknown arm, or a run that failed for a reason the user can mend.
        Interrupted: asked to stop; every run has saved its state.
    """
    console = console or Console()
    out = Path(out)
    chosen = _chosen_arms(study, arms)
    count = seeds or study.compare.seeds
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "study.yaml", resolved(study))
    from warmstart.report.page import render
    from warmstart.report.results import Results
    from warmstart.report.table import comparison_table

    if study.compare.at == "no-training":
        from warmstart.run_data_study import measure

        record = measure(study, chosen, count, slug=slug, scale=scale, console=console, engine=engine)
    else:
        tasks = plan(study, chosen, count, out)
        _carry_out(tasks, jobs or _default_jobs(tasks), resume, console, engine)
        record = Results.model_validate(collect(study, tasks, slug=slug, scale=scale, seeds=count))
    record.save(out / "results.json")
    if results is not None:
        record.save(Path(results) / study.family / f"{slug}.json")
    page = render(out)
    console.print(comparison_table(record, console.width))
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    return record.model_dump(mode="json")


def plan(study: Study, arms: list[str], seeds: int, out: Path) -> list[Task]:
    """Every run of the study, sources first."""
    tasks = []
    for seed in range(seeds):
        made: dict[str, Path] = {}
        for name in study.sources:
            if not any(name in _starts(stage) for arm in arms for stage in study.arms[arm]):
                continue
            recipe = study.source_recipe(name, seed)
            folder = out / "sources" / name / f"seed-{seed}"
            tasks.append(Task("sources", name, seed, recipe, folder))
            made[name] = folder / "stages" / recipe.stage_name(len(recipe.stages) - 1)
        for arm in arms:
            recipe = study.recipe(arm, seed)
            needs = [made[name] for s in recipe.stages for name in _starts(s) if name in made]
            models = {name: str((stage / "model").resolve()) for name, stage in made.items()}
            recipe = recipe.model_copy(update={"stages": [_located(s, models) for s in recipe.stages]})
            tasks.append(Task("arms", arm, seed, recipe, out / "arms" / arm / f"seed-{seed}", needs))
    return sorted(tasks, key=lambda task: (task.group != "sources", task.seed))


def _starts(stage: Stage) -> list[str]:
    """What a stage takes its weights or its tokenizer from, by the names in the recipe."""
    loaded = stage.tokenizer.load if stage.tokenizer is not None else None
    return [name for name in (stage.from_, loaded) if name is not None]


def _located(stage: Stage, models: dict[str, str]) -> Stage:
    """A stage with the folders of the study's sources in the place of their names."""
    changes: dict[str, Any] = {}
    if stage.from_ in models:
        changes["from_"] = models[stage.from_]
    if stage.tokenizer is not None and stage.tokenizer.load in models:
        changes["tokenizer"] = Tokenizer(load=models[stage.tokenizer.load])
    return stage.model_copy(update=changes)


def _chosen_arms(study: Study, arms: list[str] | None) -> list[str]:
    for arm in arms or []:
        if arm not in study.arms:
            raise RecipeError(
                f"--arms: there is no arm '{arm}'{nearest(arm, study.arms)}; arms: {', '.join(study.arms)}"
            )
    wanted = set(arms or study.compare.arms or study.arms) | {study.compare.baseline}
    return [arm for arm in study.arms if arm in wanted]


def _default_jobs(tasks: list[Task]) -> int:
    import torch

    wants_gpu = any(s.train.device != "cpu" for t in tasks for s in t.recipe.stages) and torch.cuda.is_available()
    return 1 if wants_gpu else max(1, min(os.cpu_count() or 1, len(tasks)))


# ---- processes -----------------------------------------------------------------------------------------------------


class _QueueReporter(Reporter):
    """Sends a run's events to the process that shows the whole study; steps at most twice a second."""

    def __init__(self, queue: Any, key: tuple[str, str, int]) -> None:
        self.queue, self.key, self._last = queue, key, 0.0

    def event(self, kind: str, **values: Any) -> None:
        now = time.monotonic()
        if kind == "step" and now - self._last < 0.5:
            return
        self._last = now
        self.queue.put((self.key, kind, values))


def _work(
    recipe: dict[str, Any],
    folder: str,
    resume: bool,
    threads: int,
    queue: Any,
    key: tuple[str, str, int],
    engine: Engine | None,
) -> None:
    """One run in a process of its own."""
    # A terminal sends Ctrl-C to its whole process group; a run that heard it there and again from the study would take
    # the second for "stop at once" and not save. So it hears the study alone.
    os.setpgrp()
    import torch

    from warmstart.run_recipe import run

    if threads:
        torch.set_num_threads(threads)
    try:
        run(Recipe.model_validate(recipe), folder, resume=resume, reporter=_QueueReporter(queue, key), engine=engine)
    except (Interrupted, KeyboardInterrupt) as error:
        queue.put((key, "interrupted", {"text": str(error)}))
    except UserError as error:
        queue.put((key, "failed", {"text": str(error)}))
    except Exception:
        queue.put((key, "broken", {"text": traceback.format_exc()}))
    else:
        queue.put((key, "finished", {}))


def _carry_out(tasks: list[Task], jobs: int, resume: bool, console: Console, engine: Engine | None) -> None:
    """Runs every task that is not finished, `jobs` at a time; sources before the arms that need them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["warmstart.run_recipe"])
    queue = context.Queue()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    by_key = {(t.group, t.name, t.seed): t for t in tasks}
    for task in tasks:
        task.state = "finished" if resume and task.finished else "waiting"
    running: dict[tuple[str, str, int], Any] = {}
    stopping: list[int] = []
    # A closed terminal (SIGHUP) and a scheduler's SIGTERM save every run, as Ctrl-C does.
    old = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with (
            Live(_status(tasks), console=console, transient=True, auto_refresh=False)
            if console.is_terminal
            else _quiet() as live
        ):
            while True:
                try:
                    if not stopping:
                        for task in tasks:
                            ready = all((need / "stage.json").is_file() for need in task.needs)
                            if task.state == "waiting" and ready and len(running) < jobs:
                                key = (task.group, task.name, task.seed)
                                raw = task.recipe.model_dump(mode="json", by_alias=True)
                                process = context.Process(
                                    target=_work, args=(raw, str(task.folder), resume, threads, queue, key, engine)
                                )
                                process.start()
                                running[key], task.state = process, "running"
                    if not running:
                        break
                    _listen(queue, by_key, running, console, live)
                    if live is not None:
                        live.update(_status(tasks), refresh=True)
                except KeyboardInterrupt:
                    stopping.append(1)
                    for process in running.values():
                        if process.is_alive():
                            os.kill(process.pid, signal.SIGINT)
                if any(task.state in ("failed", "broken") for task in tasks) and not stopping:
                    stopping.append(1)
                    for process in running.values():
                        process.terminate()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        for process in running.values():
            process.terminate()
    for task in tasks:
        if task.state == "broken":
            raise RuntimeError(f"{task.title} in {task.folder} broke:\n{task.shown['text']}")
        if task.state == "failed":
            raise UserError(f"{task.title} in {task.folder}: {task.shown['text']}")
    if stopping:
        raise Interrupted("interrupted; every run has saved its state")


def _listen(queue: Any, by_key: dict, running: dict, console: Console, live: Any) -> None:
    """Takes what the runs said; notices those that died without a word."""
    try:
        key, kind, values = queue.get(timeout=0.5)
    except Empty:
        for key, process in list(running.items()):
            if not process.is_alive() and queue.empty():
                by_key[key].state = "failed"
                by_key[key].shown["text"] = (
                    f"its process ended with exit code {process.exitcode} (killed? out of memory?)"
                )
                del running[key]
        return
    task = by_key[key]
    if kind in ("finished", "failed", "broken", "interrupted"):
        task.state = kind
        running.pop(key).join()
        task.shown |= values
        if live is None:
            console.print(f"{task.title}: {kind}", highlight=False)
    elif kind == "evaluation":
        task.shown |= values["values"]
        if live is None:
            first = next(iter(values["values"].items()), ("", 0.0))
            console.print(f"{task.title}: step {values['step']}  {first[0]} {first[1]:.4f}", highlight=False)
    elif kind == "step":
        task.shown |= values
    elif kind == "stage":
        task.shown["stage"] = values["name"]


class _quiet:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: Any) -> None:
        return None


def _status(tasks: list[Task]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("run", "seed", "stage", "done", "loss", "tokens/s"):
        table.add_column(column, justify="left" if column in ("run", "stage") else "right")
    for task in tasks:
        if task.state == "running":
            shown = task.shown
            table.add_row(
                task.name,
                str(task.seed),
                str(shown.get("stage", "")),
                f"{100 * shown.get('fraction', 0):.0f} %",
                f"{shown['loss']:.3f}" if "loss" in shown else "",
                f"{shown['tokens_per_second']:,.0f}" if "tokens_per_second" in shown else "",
            )
    done = sum(task.state == "finished" for task in tasks)
    table.caption = f"{done} of {len(tasks)} runs finished"
    return table


# ---- results -------------------------------------------------------------------------------------------------------


def collect(study: Study, tasks: list[Task], *, slug: str, scale: str, seeds: int) -> dict[str, Any]:
    """The results of finished runs as a plain dictionary (the form of `report/results.py`)."""
    from warmstart.provenance import commit, machine, versions
    from warmstart.verdict import effects

    groups: dict[str, dict[str, list[Task]]] = {"sources": {}, "arms": {}}
    for task in sorted(tasks, key=lambda task: task.seed):
        groups[task.group].setdefault(task.name, []).append(task)
    arms = {name: _arm(members, study.compare) for name, members in groups["arms"].items()}
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
        "machine": machine() | {"precision": last["precision"]},
        "seeds": list(range(seeds)),
        "metric": study.compare.metric,
        "better": study.compare.better,
        "baseline": study.compare.baseline,
        "paper": study.paper.model_dump(mode="json") if study.paper else None,
        "claim": study.claim.model_dump(mode="json") if study.claim else None,
        "sources": sources,
        "arms": arms,
        "data": last["data"],
        "recipe": resolved(study),
    }
    record["effects"] = effects(record)
    return record


def _stages(task: Task) -> list[dict[str, Any]]:
    names = [task.recipe.stage_name(n) for n in range(len(task.recipe.stages))]
    return [json.loads((task.folder / "stages" / n / "stage.json").read_text(encoding="utf-8")) for n in names]


def _totals(members: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Compute of runs, one number per seed: the sum over a run's stages."""
    return {
        "flops": [sum(s["flops"] for s in stages) for stages in members],
        "tokens": [sum(s["tokens"] for s in stages) for stages in members],
        "seconds": [round(sum(s["seconds"] for s in stages), 2) for stages in members],
        "peak_memory_bytes": [max(s["peak_memory_bytes"] for s in stages) for stages in members],
        "parameters": members[0][-1]["parameters"],
    }


def _arm(members: list[Task], compare: Compare) -> dict[str, Any]:
    stages = [_stages(task) for task in members]
    curves = [_curve(task, compare.metric) for task in members]
    for name in compare.beside:
        if name not in stages[0][-1]["final"]:
            known = ", ".join(stages[0][-1]["final"])
            raise UserError(f"compare.beside: '{name}' is not measured{nearest(name, stages[0][-1]['final'])}; {known}")
    further = members[0].recipe.stages[-1].evaluate.also
    lineage = [json.loads((task.folder / "lineage.json").read_text(encoding="utf-8")) for task in members]
    return _totals(stages) | {
        "reused_flops": [s[0]["reused_flops"] for s in stages],
        "trial_flops": [s[0]["trial_flops"] for s in stages] if any(s[0]["trial_flops"] for s in stages) else [],
        "final": [curve["values"][-1] for curve in curves],
        "curve": _by_seed(curves),
        "measured": {name: [s[-1]["final"][name] for s in stages] for name in compare.beside},
        "also": {name: _by_seed([_curve(task, f"{name}/loss") for task in members]) for name in further},
        "lineage": lineage,
    }


def _by_seed(curves: list[dict[str, list[float]]]) -> dict[str, list[list[float]]]:
    return {key: [curve[key] for curve in curves] for key in ("flops", "tokens", "values")}


def _curve(task: Task, metric: str) -> dict[str, list[float]]:
    """The metric over a run's stages, against the FLOPs and tokens since the run's beginning."""
    curve: dict[str, list[float]] = {"flops": [], "tokens": [], "values": []}
    before = {"flops": 0.0, "tokens": 0}
    for number, facts in enumerate(_stages(task)):
        lines = read_metrics(task.folder / "stages" / task.recipe.stage_name(number) / "metrics.jsonl")
        for line in lines:
            if metric not in line:
                continue
            if number and line["step"] == 0 and not facts["surgery"]:
                continue  # the same weights as at the end of the stage before
            curve["flops"].append(before["flops"] + line["flops"])
            curve["tokens"].append(before["tokens"] + line["tokens"])
            curve["values"].append(line[metric])
        before = {"flops": before["flops"] + facts["flops"], "tokens": before["tokens"] + facts["tokens"]}
    if not curve["values"]:
        raise UserError(f"the metric '{metric}' is not among what the evaluators of {task.title} measure")
    return curve
