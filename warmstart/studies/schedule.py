"""Which run of a study begins when, and what happens to runs that end.

    a run is over        those that waited for it may begin
    it cannot win        the same
    the user can mend it it is not tried again; the others go on, those that need it excepted, and the error comes last
    its worker is lost   it goes on elsewhere from its last saved state, unless it was lost `LOSSES` times in a row
                         without having saved a new one: then the run itself kills its workers
    Ctrl-C, SIGTERM      all save and stop; a second one stops them at once

Nothing here knows what a worker is, and nothing depends on how fast one is.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from warmstart.data.engine import Engine
from warmstart.errors import Interrupted, UserError
from warmstart.forecast.stopping import FILE
from warmstart.provenance import versions
from warmstart.recipe_study import Study
from warmstart.studies.lease import Lease
from warmstart.studies.owners import SILENCE, Follower, first_line
from warmstart.studies.shown import Shown
from warmstart.studies.tasks import Key, Task, forget
from warmstart.studies.watching import watch_of
from warmstart.studies.worker import Order, Word
from warmstart.train.metrics import read_metrics

LOSSES = 3
LOOK_EVERY = 0.5
"""Seconds between two looks at what the runs say."""


class Workers(Protocol):
    """Where runs go on.

    Attributes:
        room: runs at a time.
        threads: that each of them computes with.
    """

    room: int
    threads: int

    def start(self, key: Key, order: Order) -> None:
        """Begins a run."""

    def ended(self, seconds: float) -> list[tuple[Key, Word]]:
        """The runs that are over; waits for the first of them, at most so long."""

    def interrupt(self, at_once: bool = False) -> None:
        """Asks the runs to save and stop; or ends them."""

    def close(self) -> None:
        """No run goes on after this."""


class Schedule:
    """Carries the tasks of a study out.

    Args:
        lease: that of the study, in whose folder those of the runs are too.
        resume: False starts again from nothing.
        engine: where the row steps of each run go on.
    """

    def __init__(
        self,
        study: Study,
        tasks: Sequence[Task],
        workers: Workers,
        lease: Lease,
        shown: Shown,
        resume: bool,
        engine: Engine,
    ) -> None:
        self.study, self.tasks, self.workers, self.shown = study, list(tasks), workers, shown
        self.resume, self.engine = resume, engine
        self.leases, self._file = lease.path.parents[1], lease.path.resolve()
        self._owner, self._versions, self._home = first_line(lease.path), versions(), str(Path.cwd())
        self._by_key = {task.key: task for task in self.tasks}
        self._followers = {task.key: Follower(self._lease_of(task)) for task in self.tasks}
        self._losses: dict[Key, tuple[int, tuple[int, int]]] = {}
        self._begun: set[Key] = set()
        self._stops = 0

    def carry_out(self) -> None:
        """Runs every task that is not finished (or stopped); sources before the arms that need them.

        Raises:
            UserError: a run failed for a reason that the user can mend.
            Interrupted: asked to stop.
            RuntimeError: a run broke.
        """
        self._look_at_the_folders()
        with self.shown, _asked_to_stop():
            try:
                while True:
                    try:
                        if not self._stops:
                            self._start_what_can_begin()
                        if not any(task.state == "running" for task in self.tasks):
                            break
                        self._hear()
                        self.shown.refresh()
                    except KeyboardInterrupt:
                        self._stops += 1
                        self.workers.interrupt(at_once=self._stops > 1)
            finally:
                self.workers.close()
        self._raise_what_went_wrong()

    def _look_at_the_folders(self) -> None:
        if not self.resume:
            forget(self.tasks)
        for task in self.tasks:
            task.state = "finished" if task.finished else "waiting"
            if self.resume and self.study.compare.stop == "forecast" and task.after and task.stop:
                task.state = "stopped"
            elif task.state == "waiting":
                (task.folder / FILE).unlink(missing_ok=True)  # it goes on where it was

    def _start_what_can_begin(self) -> None:
        running = sum(task.state == "running" for task in self.tasks)
        for task in self.tasks:
            if task.state == "waiting" and running < self.workers.room and task.ready:
                self._start(task)
                running += 1

    def _start(self, task: Task) -> None:
        order = Order(
            title=task.title,
            recipe=task.recipe.model_dump(mode="json", by_alias=True),
            folder=str(task.folder.resolve()),
            lease=str(self._lease_of(task).resolve()),
            study=str(self._file),
            owner=self._owner,
            home=self._home,
            versions=self._versions,
            resume=self.resume or task.key in self._begun,
            threads=self.workers.threads,
            engine=self.engine,
            watch=watch_of(task, self.study),
            metric=self.study.compare.metric,
        )
        task.state, task.shown = "running", {}
        self.workers.start(task.key, order)

    def _lease_of(self, task: Task) -> Path:
        return self.leases / task.group / task.name / f"seed-{task.seed}"

    def _hear(self) -> None:
        """Takes what the runs said, and what became of those that are over."""
        ended = self.workers.ended(LOOK_EVERY)
        for task in self.tasks:
            if task.state == "running":
                self._listen(task)
        for key, word in ended:
            self._take(self._by_key[key], word)

    def _listen(self, task: Task) -> None:
        for line in self._followers[task.key].lines():
            if line["kind"] == "stage":
                self._begun.add(task.key)  # what `--fresh` removes is removed
            self.shown.told(task, line)

    def _take(self, task: Task, word: Word) -> None:
        if word.kind == "lost" and self._stops > 1:
            word = Word("interrupted")
        if word.kind == "lost" or (word.kind == "interrupted" and not self._stops):
            self._go_on_elsewhere(task, word)
            return
        if word.kind == "finished":
            _until(lambda: task.finished)
        task.state, task.shown["text"] = word.kind, word.text
        if word.kind in ("failed", "broken"):
            self.shown.say(f"{task.title} failed: {word.text.strip().splitlines()[-1]}; the others go on")
        self.shown.ended(task)

    def _go_on_elsewhere(self, task: Task, word: Word) -> None:
        """A run whose worker is gone waits for another, or is given up."""
        saved = task.saved()
        losses, before = self._losses.get(task.key, (0, saved))
        losses = losses + 1 if saved == before else 1
        self._losses[task.key] = losses, saved
        why = word.text or "its worker was stopped"
        if losses >= LOSSES:
            task.state = "failed"
            task.shown["text"] = f"{why}; {losses} times in a row without a newly saved state"
            self.shown.say(f"{task.title} failed: {task.shown['text']}; the others go on")
            return
        task.state = "interrupted" if self._stops else "waiting"
        self.shown.say(f"{task.title}: {why}; goes on from {_place(task)}")

    def _raise_what_went_wrong(self) -> None:
        broken = [task for task in self.tasks if task.state == "broken"]
        failed = [task for task in self.tasks if task.state == "failed"]
        if broken:
            raise RuntimeError(
                "\n".join(f"{task.title} in {task.folder} broke:\n{task.shown['text']}" for task in broken)
            )
        if failed:
            raise UserError(*(f"{task.title} in {task.folder}: {task.shown['text']}" for task in failed))
        if self._stops:
            kept = (
                "every run has saved its state" if self._stops == 1 else "every run goes on from its last saved state"
            )
            raise Interrupted(f"interrupted; {kept}")


def _place(task: Task) -> str:
    """Where a run goes on, and how many steps of it that costs."""
    done, step = task.saved()
    if done == len(task.recipe.stages):
        return "its end"
    name = task.recipe.stage_name(done)
    lines = read_metrics(task.folder / "stages" / name / "metrics.jsonl")
    again = max(0, max((line["step"] for line in lines), default=0) - step)
    return f"step {step} of {name} ({again} step{'' if again == 1 else 's'} again)"


def _until(there: Callable[[], bool], seconds: float = SILENCE) -> None:
    """A file system that machines share may show a file later than it was written elsewhere."""
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        time.sleep(0.2)


@contextmanager
def _asked_to_stop() -> Iterator[None]:
    """A closed terminal (SIGHUP) and a scheduler's SIGTERM save every run, as Ctrl-C does."""
    old = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
