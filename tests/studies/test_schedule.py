"""Which run begins when, with workers that are told how their runs end."""

from __future__ import annotations

import io
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from corpora import write_corpus
from rich.console import Console
from tiny_studies import stopping_study, tiny_study

from warmstart.data.engine import Engine
from warmstart.errors import Interrupted, UserError
from warmstart.recipe import Recipe
from warmstart.recipe_study import Study
from warmstart.run_study import study as carry_out_study
from warmstart.studies.lease import Lease
from warmstart.studies.schedule import LOSSES, Schedule
from warmstart.studies.shown import Shown
from warmstart.studies.tasks import Key, Task, plan
from warmstart.studies.worker import Order, Word


class Told:
    """Workers whose runs end as `ends` says, in an order that is drawn; whatever is not told of finishes."""

    threads = 1

    def __init__(self, ends: dict[Key, list[str]] | None = None, room: int = 2, seed: int = 0) -> None:
        self.ends, self.room, self.draw = ends or {}, room, random.Random(seed)
        self.running: dict[Key, Order] = {}
        self.orders: list[tuple[Key, Order]] = []
        self.most = 0
        self.interrupted: list[bool] = []
        self.before_it_ends: Callable[[Key, Order], None] = lambda key, order: None

    def start(self, key: Key, order: Order) -> None:
        assert key not in self.running
        self.running[key] = order
        self.orders.append((key, order))
        self.most = max(self.most, len(self.running))

    def ended(self, seconds: float) -> Iterator[tuple[Key, Word]]:
        key = self.draw.choice(sorted(self.running))
        order = self.running[key]
        self.before_it_ends(key, order)
        del self.running[key]
        kind = self.ends[key].pop(0) if self.ends.get(key) else "finished"
        if kind == "finished":
            finish(order, key)
        return iter([(key, Word(kind, f"text of {kind}"))])

    def interrupt(self, at_once: bool = False) -> None:
        self.interrupted.append(at_once)
        self.ends = {key: ["lost" if at_once else "interrupted"] for key in self.running}

    def close(self) -> None: ...


def finish(order: Order, key: Key) -> None:
    """What a finished run leaves behind, with a curve of its own."""
    recipe = Recipe.model_validate(order.recipe)
    for number in range(len(recipe.stages)):
        folder = Path(order.folder) / "stages" / recipe.stage_name(number)
        folder.mkdir(parents=True, exist_ok=True)
        level = 1 + len(key[1]) + key[2]
        lines = [
            {"step": n, "flops": n, "tokens": n, "seconds": n, "validation/loss": level - 0.1 * n} for n in range(4)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        facts = {"flops": 3, "tokens": 3, "seconds": 3}
        (folder / "stage.json").write_text(json.dumps(facts))


def schedule(
    tmp_path: Path, workers: Told, raw: dict[str, Any] | None = None, resume: bool = True
) -> tuple[Schedule, list[Task], io.StringIO]:
    study = Study.model_validate(raw or tiny_study(tmp_path / "c.jsonl"))
    tasks = plan(study, list(study.arms), study.compare.seeds, tmp_path / "out")
    lease, said = Lease.claim(tmp_path / "out/leases/study"), io.StringIO()
    lease.release()
    shown = Shown(tasks, Console(file=said, width=300))
    return Schedule(study, tasks, workers, lease, shown, resume, Engine()), tasks, said


@pytest.mark.parametrize("room", [1, 2, 9])
def test_sources_come_before_their_arms_and_no_more_run_than_there_is_room_for(tmp_path: Path, room: int) -> None:
    workers = Told(room=room)
    done: list[Key] = []

    def look(key: Key, order: Order) -> None:
        done.append(key)

    workers.before_it_ends = look
    run, tasks, _ = schedule(tmp_path, workers)
    run.carry_out()
    assert all(task.state == "finished" for task in tasks)
    assert len(workers.orders) == len(tasks) == 8
    assert workers.most <= room
    assert workers.most == room or room > 2
    for seed in range(2):
        for arm in ("fpi", "staged"):
            assert done.index(("sources", "small", seed)) < done.index(("arms", arm, seed))


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    schedule(tmp_path, Told())[0].carry_out()
    again = Told()
    schedule(tmp_path, again)[0].carry_out()
    assert not again.orders
    schedule(tmp_path, again, resume=False)[0].carry_out()
    assert len(again.orders) == 8


def test_a_lost_worker_and_a_stopped_one_cost_another_try_from_the_saved_state(tmp_path: Path) -> None:
    key: Key = ("arms", "scratch", 0)
    workers = Told({key: ["lost", "interrupted"]})

    def half_way(now: Key, order: Order) -> None:
        stage = Path(order.folder) / "stages/00-stage"
        (stage / "state/step-00000030").mkdir(parents=True, exist_ok=True)
        (stage / "metrics.jsonl").write_text('{"step": 37}\n')

    workers.before_it_ends = half_way
    run, tasks, said = schedule(tmp_path, workers)
    run.carry_out()
    assert [one for one, _ in workers.orders].count(key) == 3
    assert all(task.state == "finished" for task in tasks)
    assert (
        said.getvalue().count("scratch (seed 0): text of lost; goes on from step 30 of 00-stage (7 steps again)") == 1
    )


def test_a_run_that_kills_its_workers_is_given_up_unless_it_comes_further_each_time(tmp_path: Path) -> None:
    key: Key = ("arms", "scratch", 0)
    workers = Told({key: ["lost"] * 20})
    run, tasks, _ = schedule(tmp_path, workers)
    with pytest.raises(UserError, match=rf"scratch \(seed 0\) in .*: text of lost; {LOSSES} times in a row"):
        run.carry_out()
    assert [one for one, _ in workers.orders].count(key) == LOSSES
    assert sum(task.state == "finished" for task in tasks) == 7

    steps = iter(range(1, 99))
    further = Told({key: ["lost"] * 20})

    def comes_further(now: Key, order: Order) -> None:
        if now == key:
            (Path(order.folder) / f"stages/00-stage/state/step-{next(steps):08d}").mkdir(parents=True)

    further.before_it_ends = comes_further
    schedule(tmp_path, further)[0].carry_out()
    assert len(further.orders) == 21


def test_an_error_is_not_tried_again_and_the_others_finish(tmp_path: Path) -> None:
    workers = Told({("arms", "fpi", 1): ["failed"], ("sources", "small", 0): ["failed"]})
    run, tasks, said = schedule(tmp_path, workers)
    with pytest.raises(UserError) as raised:
        run.carry_out()
    assert [line.split(" in /")[0] for line in str(raised.value).splitlines()] == ["small (seed 0)", "fpi (seed 1)"]
    assert len(workers.orders) == 6
    states = {task.key: task.state for task in tasks}
    assert states["arms", "fpi", 0] == states["arms", "staged", 0] == "waiting"  # their source is not there
    assert sum(state == "finished" for state in states.values()) == 4
    assert "fpi (seed 1) failed: text of failed; the others go on" in said.getvalue()


def test_a_defect_keeps_its_traceback(tmp_path: Path) -> None:
    run, _, _ = schedule(tmp_path, Told({("arms", "fpi", 1): ["broken"]}))
    with pytest.raises(RuntimeError, match=r"fpi \(seed 1\) in .* broke:\ntext of broken"):
        run.carry_out()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_stop_all_save_and_nothing_else_begins(tmp_path: Path, number: signal.Signals) -> None:
    workers = Told(room=3)

    def ask(key: Key, order: Order) -> None:
        workers.before_it_ends = lambda key, order: None
        os.kill(os.getpid(), number)

    workers.before_it_ends = ask
    run, tasks, _ = schedule(tmp_path, workers)
    with pytest.raises(Interrupted, match="every run has saved its state"):
        run.carry_out()
    assert workers.interrupted == [False]
    assert len(workers.orders) == 3
    assert [task.state for task in tasks].count("interrupted") == 3
    again = Told()
    schedule(tmp_path, again)[0].carry_out()
    assert len(again.orders) == 8


def test_asked_twice_they_stop_at_once(tmp_path: Path) -> None:
    workers = Told(room=3)
    workers.before_it_ends = lambda key, order: (
        os.kill(os.getpid(), signal.SIGINT) if len(workers.interrupted) < 2 else None
    )
    run, _, _ = schedule(tmp_path, workers)
    with pytest.raises(Interrupted, match="goes on from its last saved state"):
        run.carry_out()
    assert workers.interrupted == [False, True]


def test_started_afresh_a_lost_run_begins_anew_only_until_its_old_state_is_gone(tmp_path: Path) -> None:
    key: Key = ("arms", "scratch", 0)
    workers = Told({key: ["lost", "lost"]})

    def say(now: Key, order: Order) -> None:
        if now == key and [one for one, _ in workers.orders].count(key) == 2:
            lease = Lease.claim(Path(order.lease))
            lease.write("stage", name="00-stage")
            lease.release()

    workers.before_it_ends = say
    schedule(tmp_path, workers, resume=False)[0].carry_out()
    assert [order.resume for now, order in workers.orders if now == key] == [False, False, True]


def test_what_a_stop_is_decided_by_does_not_depend_on_who_is_first(tmp_path: Path) -> None:
    """The same baseline and the same finished pairs for every run, in whatever order and however many at a time."""
    found = []
    for seed, room in enumerate((1, 2, 3, 9, 9, 9)):
        workers = Told(room=room, seed=seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        schedule(folder, workers, stopping_study(tmp_path / "c.jsonl", seeds=3))[0].carry_out()
        found.append({key: order.watch for key, order in workers.orders})
    assert len(found[0]) == 12
    assert all(other == found[0] for other in found)
    watch = found[0]["arms", "b", 2]
    assert watch is not None
    assert len(watch.finished) == 6


def test_two_studies_do_not_work_in_one_folder(tmp_path: Path) -> None:
    study = Study.model_validate(tiny_study(write_corpus(tmp_path / "c.jsonl")))
    other = Lease.claim(tmp_path / "out/leases/study")
    with pytest.raises(UserError, match=rf"a study is at work here \(process {os.getpid()} on "):
        carry_out_study(study, slug="t", scale="x", out=tmp_path / "out", console=Console(file=io.StringIO()))
    other.release()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["leases"]
