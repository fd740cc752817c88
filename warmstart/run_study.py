"""Arms x seeds at equal compute, each in a process of its own, then effect, interval and verdict.

Every arm of a seed sees the same data in the same order, the same held-out blocks and the same schedule family, and
stops at the same number of training FLOPs. Source models are trained once per seed (not once for all): otherwise the
luck of one source would look like an effect of the method.

On a CPU the arms run side by side, one core each: two small models on one core each finish sooner than one model on
two cores. Seconds in the result are therefore those of a machine that does several things at once.

With `compare: {stop: forecast}` an arm's run may be ended once its arm cannot win (`forecast/stopping.py`). Then the
baselines come first, and the runs of a seed wait for all of the seeds before, so that every decision is made from the
same finished pairs however fast the machine is.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import traceback
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from warmstart.data.engine import Engine
from warmstart.disk import write_whole
from warmstart.errors import Interrupted, RecipeError, StateError, UserError, nearest
from warmstart.finished import read_finished, read_sealed
from warmstart.forecast.stopping import FILE, Pair, Stop, Stopped, Watch, read_stop, save_stop
from warmstart.named_models import located, named_models
from warmstart.recipe import Recipe, Study
from warmstart.recipe_file import resolved
from warmstart.train.metrics import read_metrics
from warmstart.train.progress import Reporter
from warmstart.verdict import Point


@dataclass
class Task:
    """One recipe at one seed: an arm, or a source model that arms start from."""

    group: str
    name: str
    seed: int
    recipe: Recipe
    folder: Path
    needs: list[Path] = field(default_factory=list)
    after: list[Task] = field(default_factory=list)
    state: str = "waiting"
    shown: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name} (seed {self.seed})"

    @property
    def finished(self) -> bool:
        last = len(self.recipe.stages) - 1
        return (self.folder / "stages" / self.recipe.stage_name(last) / "stage.json").is_file()

    @property
    def stop(self) -> Stop | None:
        """What ended the run before its time."""
        return None if self.finished else read_stop(self.folder)

    @property
    def ready(self) -> bool:
        """Whether all that it waits for is there."""
        there = all((need / "stage.json").is_file() for need in self.needs)
        return there and all(task.state in ("finished", "stopped") for task in self.after)


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
        _carry_out(study, tasks, jobs or _default_jobs(tasks), resume, console, engine)
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
        for name in study.needed(stage for arm in arms for stage in study.arms[arm]):
            recipe = study.source_recipe(name, seed)
            folder = out / "sources" / name / f"seed-{seed}"
            tasks.append(_task("sources", name, seed, recipe, folder, made, study.given_sources))
            made[name] = folder / "stages" / recipe.stage_name(len(recipe.stages) - 1)
        for arm in arms:
            recipe = study.recipe(arm, seed)
            folder = out / "arms" / arm / f"seed-{seed}"
            tasks.append(_task("arms", arm, seed, recipe, folder, made, study.given_sources))
    if study.compare.stop == "never":
        return sorted(tasks, key=lambda task: (task.group != "sources", task.seed))
    baseline = study.compare.baseline
    judged = [task for task in tasks if task.group == "arms" and task.name not in study.compare.references]
    for task in judged:
        if task.name != baseline and task.seed:
            task.after = [t for t in judged if t.seed < task.seed or (t.name, t.seed) == (baseline, task.seed)]
    return sorted(tasks, key=lambda task: (task.group != "sources", task.name != baseline, task.seed))


def _task(
    group: str, name: str, seed: int, recipe: Recipe, folder: Path, made: dict[str, Path], given: dict[str, str]
) -> Task:
    """A run that waits for the sources that it names, with their folders in the place of their names."""
    needs = dict.fromkeys(made[name] for stage in recipe.stages for name in named_models(stage) if name in made)
    models = given | {source: str((stage / "model").resolve()) for source, stage in made.items()}
    recipe = recipe.model_copy(update={"stages": [located(stage, models) for stage in recipe.stages]})
    return Task(group, name, seed, recipe, folder, list(needs))


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


class _Watched(_QueueReporter):
    """Ends the run at an evaluation by which its arm cannot win: there and then, so that the same run always ends at
    the same step."""

    def __init__(self, queue: Any, key: tuple[str, str, int], watch: Watch, metric: str, recipe: Recipe, folder: Path):
        super().__init__(queue, key)
        self.watch, self.metric, self.recipe, self.folder = watch, metric, recipe, folder

    def event(self, kind: str, **values: Any) -> None:
        super().event(kind, **values)
        if kind != "evaluation" or self.metric not in values["values"]:
            return
        curve = _curve(self.recipe, self.folder, self.metric)
        stop = self.watch.decide(_points(curve), tokens=curve["tokens"][-1], seconds=curve["seconds"][-1])
        if stop is not None:
            save_stop(self.folder, stop)
            raise Stopped


def _forget(tasks: list[Task]) -> None:
    """What earlier runs finished no longer counts: no arm begins from a source that is about to be made anew."""
    for task in tasks:
        for stage in task.folder.glob("stages/*/stage.json"):
            stage.unlink()


def _watch(task: Task, tasks: list[Task], study: Study) -> Watch | None:
    """What decides about a run that is about to begin; None where nothing could be decided."""
    if not task.after:
        return None
    metric, base = study.compare.metric, study.compare.baseline
    done = {(t.name, t.seed): t for t in task.after if t.state == "finished"}
    curves = {key: _points(_curve(t.recipe, t.folder, metric)) for key, t in sorted(done.items())}
    reference = {seed: curve for (name, seed), curve in curves.items() if name == base}
    pairs = [Pair(name, seed, curve, reference[seed]) for (name, seed), curve in curves.items() if name != base]
    return Watch(task.name, reference[task.seed], pairs, study.compare.better)


def _points(curve: dict[str, list[float]]) -> list[Point]:
    return [{"flops": f, "value": v} for f, v in zip(curve["flops"], curve["values"], strict=True)]


def _work(
    recipe: dict[str, Any],
    folder: str,
    resume: bool,
    threads: int,
    queue: Any,
    key: tuple[str, str, int],
    engine: Engine | None,
    watch: Watch | None = None,
    metric: str = "",
) -> None:
    """One run in a process of its own."""
    # A terminal sends Ctrl-C to its whole process group; a run that heard it there and again from the study would take
    # the second for "stop at once" and not save. So it hears the study alone.
    os.setpgrp()
    import torch

    from warmstart.run_recipe import run

    if threads:
        torch.set_num_threads(threads)
    read = Recipe.model_validate(recipe)
    reporter = _Watched(queue, key, watch, metric, read, Path(folder)) if watch else _QueueReporter(queue, key)
    try:
        run(read, folder, resume=resume, reporter=reporter, engine=engine)
    except Stopped:
        queue.put((key, "stopped", {}))
    except (Interrupted, KeyboardInterrupt) as error:
        queue.put((key, "interrupted", {"text": str(error)}))
    except UserError as error:
        queue.put((key, "failed", {"text": str(error)}))
    except Exception:
        queue.put((key, "broken", {"text": traceback.format_exc()}))
    else:
        queue.put((key, "finished", {}))


def _carry_out(
    study: Study, tasks: list[Task], jobs: int, resume: bool, console: Console, engine: Engine | None
) -> None:
    """Runs every task that is not finished (or stopped), `jobs` at a time; sources before the arms that need them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["warmstart.run_recipe"])
    queue = context.Queue()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    by_key = {(t.group, t.name, t.seed): t for t in tasks}
    if not resume:
        _forget(tasks)
    for task in tasks:
        task.state = "finished" if task.finished else "waiting"
        if resume and study.compare.stop == "forecast" and task.after and task.stop:
            task.state = "stopped"
        elif task.state == "waiting":
            (task.folder / FILE).unlink(missing_ok=True)  # it goes on where it was
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
                            if task.state == "waiting" and len(running) < jobs and task.ready:
                                key = (task.group, task.name, task.seed)
                                raw = task.recipe.model_dump(mode="json", by_alias=True)
                                watch, metric = _watch(task, tasks, study), study.compare.metric
                                process = context.Process(
                                    target=_work,
                                    args=(raw, str(task.folder), resume, threads, queue, key, engine, watch, metric),
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
    if kind in ("finished", "stopped", "failed", "broken", "interrupted"):
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
    done, stopped = (sum(task.state == state for task in tasks) for state in ("finished", "stopped"))
    table.caption = f"{done} of {len(tasks)} runs finished" + (f", {stopped} stopped" if stopped else "")
    return table


# ---- results -------------------------------------------------------------------------------------------------------


def collect(study: Study, tasks: list[Task], *, slug: str, scale: str, seeds: int) -> dict[str, Any]:
    """The results of finished runs as a plain dictionary (the form of `report/results.py`)."""
    from warmstart.provenance import commit, machine, versions
    from warmstart.verdict import effects

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
        "machine": machine() | {"precision": last["precision"]},
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
    curves = [_curve(task.recipe, task.folder, metric) for task in members]
    further = members[0].recipe.stages[-1].evaluate.also
    lineage = [read_sealed(task.folder / "lineage.json") for task in members]
    return _totals(stages) | {
        "reused_flops": [s[0]["reused_flops"] for s in stages],
        "trial_flops": [s[0]["trial_flops"] for s in stages] if any(s[0]["trial_flops"] for s in stages) else [],
        "final": [curve["values"][-1] for curve in curves],
        "curve": _by_seed(curves),
        "also": {
            name: _by_seed([_curve(task.recipe, task.folder, f"{name}/loss") for task in members]) for name in further
        },
        "measured": _measured([s[-1]["final"] for s in stages], metric),
        "lineage": lineage,
    }


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
    curves = [_curve(task.recipe, task.folder, metric) for task in members]

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
            "curve": _by_seed(curves),
            "also": {
                name: _by_seed([_curve(task.recipe, task.folder, f"{name}/loss") for task in members])
                for name in whole["also"]
            },
            "measured": {name: filled(values, nothing) for name, values in whole["measured"].items()},
            "lineage": filled(whole["lineage"], [{}] * len(members)),
            "stopped": [None if stop is None else asdict(stop) for stop in stops],
        }
    )


def _by_seed(curves: list[dict[str, list[float]]]) -> dict[str, list[list[float]]]:
    return {key: [curve[key] for curve in curves] for key in ("flops", "tokens", "values")}


def _curve(recipe: Recipe, folder: Path, metric: str) -> dict[str, list[float]]:
    """The metric over a run's stages so far, against the FLOPs, tokens and seconds since the run's beginning."""
    used = ("flops", "tokens", "seconds")
    curve: dict[str, list[float]] = {name: [] for name in (*used, "values")}
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
        if not (place / "stage.json").is_file():
            break
        facts = json.loads((place / "stage.json").read_text(encoding="utf-8"))
        before = {name: before[name] + facts[name] for name in used}
    if not curve["values"]:
        raise UserError(f"the metric '{metric}' is not among what the evaluators of {folder} measure")
    return curve
