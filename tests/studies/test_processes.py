"""Runs as processes of this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from corpora import write_corpus
from tiny_studies import tiny_study

from warmstart.data.engine import Engine
from warmstart.provenance import versions
from warmstart.recipe_study import Study
from warmstart.studies import processes
from warmstart.studies.lease import Lease
from warmstart.studies.owners import first_line
from warmstart.studies.processes import Processes
from warmstart.studies.tasks import Key, Task, plan
from warmstart.studies.worker import Order, Word

KEY: Key = ("arms", "scratch", 0)


def task_of(tmp_path: Path) -> Task:
    study = Study.model_validate(tiny_study(write_corpus(tmp_path / "c.jsonl")))
    return plan(study, ["scratch"], 1, tmp_path / "out")[0]


@pytest.mark.parametrize(
    ("cores", "asked", "room", "threads"),
    [
        (8, {}, 3, 2),  # no more processes than runs
        (2, {}, 2, 1),
        (8, {"jobs": 2}, 2, 4),
        (8, {"cpus": 4}, 2, 4),
        (8, {"cpus": 3, "jobs": 1}, 1, 3),
        (2, {"cpus": 4}, 1, 4),
    ],
)
def test_cores_are_divided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, asked: dict[str, int], room: int, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    workers = Processes([task_of(tmp_path)] * 3, **asked)
    assert (workers.room, workers.threads) == (room, threads)


def test_accelerators_are_dealt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "devices", lambda: ["0", "5"])
    task = task_of(tmp_path)
    assert Processes([task] * 9)._device() is None  # the runs of this study want none
    monkeypatch.setattr(processes, "wants_gpu", lambda tasks: True)
    workers = Processes([task] * 9)
    assert workers.room == 2
    for expected in ("0", "5", "0", "5"):
        assert workers._device() == expected
        workers._running[KEY[0], KEY[1], len(workers._running)] = None, None, expected  # type: ignore[assignment]
    assert Processes([task] * 9, gpus=0.5).room == 4
    without = Processes([task] * 9, gpus=0)
    assert without._device() == ""  # which hides them all


@pytest.mark.slow
def test_a_process_that_is_killed_has_no_word_and_one_that_cannot_begin_has_one(tmp_path: Path) -> None:
    lease = Lease.claim(tmp_path / "out/leases/study")
    task, workers = task_of(tmp_path), Processes([task_of(tmp_path)])

    def order(**other: object) -> Order:
        facts = {
            "title": "t",
            "recipe": task.recipe.model_dump(mode="json", by_alias=True),
            "folder": str(task.folder),
            "lease": str(tmp_path / "out/leases/arms/scratch/seed-0"),
            "study": str(lease.path),
            "owner": first_line(lease.path),
            "home": str(tmp_path),
            "versions": versions(),
            "resume": True,
            "threads": 1,
            "engine": Engine(),
        }
        return Order(**facts | other)  # type: ignore[arg-type]

    def word_of(order: Order) -> Word:
        workers.start(KEY, order)
        while not (found := workers.ended(0.5)):
            pass
        [(key, word)] = found
        assert key == KEY
        return word

    folder = str(tmp_path / "out")
    for other, message in (
        (
            {"study": str(tmp_path / "nowhere/leases/study/1")},
            f"does not see the study's folder {tmp_path}/nowhere; --out",
        ),
        ({"owner": {"pid": 1}}, f"does not see the study's folder {folder}; --out must be on a file system that all"),
        ({"home": "/nowhere"}, "does not see /nowhere, where the study was started and relative paths begin"),
        ({"versions": versions() | {"torch": "0.1"}}, "has other packages than the study: torch 2"),
    ):
        word = word_of(order(**other))
        assert word.kind == "failed"
        assert message in word.text
    assert not (tmp_path / "out/arms").exists()

    workers.start(KEY, order())
    process = workers._running[KEY][0]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    while not (found := workers.ended(0.5)):
        pass
    assert found[0][1].kind == "lost"
    assert "exit code -9" in found[0][1].text
    lease.release()
