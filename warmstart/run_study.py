"""Arms x seeds at equal compute, each in a process of its own, then effect, interval and verdict.

Every arm of a seed sees the same data in the same order, the same held-out blocks and the same schedule family, and
stops at the same number of training FLOPs. Source models are trained once per seed (not once for all): otherwise the
luck of one source would look like an effect of the method.

Runs go on side by side, on this machine or on a Ray cluster; what comes out is the same. How, says `studies/`.

With `compare: {stop: forecast}` an arm's run may be ended once its arm cannot win (`forecast/stopping.py`). Then the
baselines come first, and the runs of a seed wait for all of the seeds before, so that every decision is made from the
same finished pairs however fast the machines are.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from rich.console import Console

from warmstart.data.engine import Engine
from warmstart.disk import write_whole
from warmstart.errors import UserError
from warmstart.recipe_file import resolved
from warmstart.recipe_study import Study
from warmstart.studies.lease import Lease
from warmstart.studies.on_ray import OnRay
from warmstart.studies.owners import newest
from warmstart.studies.processes import Processes
from warmstart.studies.results import collect
from warmstart.studies.schedule import Schedule, Workers
from warmstart.studies.shown import Shown
from warmstart.studies.tasks import chosen_arms, plan
from warmstart.terminal import Terminal

__all__ = ["collect", "plan", "study"]


def study(
    study: Study,
    *,
    slug: str,
    scale: str,
    out: Path | str,
    seeds: int | None = None,
    arms: list[str] | None = None,
    jobs: int | None = None,
    cpus: int | None = None,
    gpus: float | None = None,
    resume: bool = True,
    results: Path | str | None = None,
    console: Console | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Carries a study out in the folder `out` and returns its results.

    Args:
        seeds: how many seeds, 0 to seeds - 1; default: the study's own number.
        arms: only these arms; the baseline is always among them.
        jobs: runs at a time; default: one per core on a CPU, one per accelerator; on Ray as many as there is room for.
        cpus: cores (and threads) of each run; default: this machine's, divided by the jobs; on Ray 1, or with
            accelerators a node's divided by them.
        gpus: the share of an accelerator that each run takes; default: a whole one, where the runs want one.
        resume: False starts again from nothing.
        results: also write the results to `results/<family>/<slug>.json` below this folder.
        engine: `Engine("ray")` carries the runs out on a Ray cluster, whose nodes all see `out` at the same path; the
            row steps of a run then go on in the run's own process (or in `workers` of them). Without training
            (`compare.at: no-training`) it says where row steps run.

    Returns:
        The results as they are written to `out/results.json`.

    Raises:
        UserError: an unknown arm, another process at work in `out`, or runs that failed for a reason the user can mend.
        Interrupted: asked to stop; every run has saved its state.
    """
    console, engine, out = console or Terminal(), engine or Engine(), Path(out)
    if gpus is not None and not 0 <= gpus <= 1:
        raise UserError(f"--gpus: found {gpus:g}; a run takes a share of one accelerator, 0 to 1")
    chosen = chosen_arms(study, arms)
    count = seeds or study.compare.seeds
    lease = _alone(out)
    try:
        write_whole(out / "study.yaml", resolved(study))
        from warmstart.report.page import render
        from warmstart.report.results import Results
        from warmstart.report.table import comparison_table

        if study.compare.at == "no-training":
            from warmstart.run_data_study import measure

            record = measure(study, chosen, count, slug=slug, scale=scale, console=console, engine=engine)
        else:
            tasks = plan(study, chosen, count, out)
            shown = Shown(tasks, console)
            workers: Workers
            if engine.kind == "ray":
                with console.status("connecting to Ray"):
                    workers = OnRay(tasks, jobs, cpus, gpus, shown.say)
            else:
                workers = Processes(tasks, jobs, cpus, gpus)
            rows = Engine("local", engine.workers, engine.batch)
            Schedule(study, tasks, workers, lease, shown, resume, rows).carry_out()
            record = Results.model_validate(collect(study, tasks, slug=slug, scale=scale, seeds=count))
        record.save(out / "results.json")
        if results is not None:
            record.save(Path(results) / study.family / f"{slug}.json")
        page = render(out)
    finally:
        lease.release()
    console.print(comparison_table(record, console.width))
    console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
    return record.model_dump(mode="json")


def _alone(out: Path) -> Lease:
    """The study's own lease: one process at a time gives orders.

    Raises:
        UserError: another one is at work.
    """
    folder = out / "leases" / "study"
    other = newest(folder)
    if other is not None and other.alive():
        raise UserError(
            f"{out}: a study is at work here ({other.who()}); wait for it, stop it, or choose another --out"
        )

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    lease = Lease.claim(folder, asked=stop, lost=stop)
    lease.begin()
    return lease
