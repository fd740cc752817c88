"""One owner at a time, whatever became of the one before."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from warmstart.errors import UserError
from warmstart.studies import lease as leases
from warmstart.studies import owners
from warmstart.studies.lease import Lease
from warmstart.studies.owners import Follower, Observed, myself, newest


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("BEAT", 0.02), ("OWN", 0.3), ("LOOK_EVERY", 0.01)):
        monkeypatch.setattr(leases, name, seconds)
    monkeypatch.setattr(owners, "SILENCE", 0.6)


def owner(folder: Path, **other: Any) -> Path:
    """Another owner's file, as it was left behind."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "000001.jsonl"
    path.write_text(json.dumps({"kind": "taken"} | myself() | other) + '\n{"kind": "begins"}\n')
    return path


def seconds_to_begin(folder: Path) -> float:
    lease = Lease.claim(folder)
    start = time.monotonic()
    lease.begin()
    lease.release()
    return time.monotonic() - start


def test_the_next_owner_begins_at_once_when_the_one_before_let_go_or_its_process_is_gone(tmp_path: Path) -> None:
    Lease.claim(tmp_path / "a").release()
    assert seconds_to_begin(tmp_path / "a") < 0.3
    done = subprocess.Popen([sys.executable, "-c", ""])
    born = psutil.Process(done.pid).create_time()
    for gone in (False, True):  # a dead process that nobody has asked for its exit code yet, and one that is no more
        while psutil.Process(done.pid).status() != psutil.STATUS_ZOMBIE if not gone else done.wait():
            time.sleep(0.01)
        owner(tmp_path / f"{gone}", pid=done.pid, born=born)
        assert seconds_to_begin(tmp_path / f"{gone}") < 0.3
    owner(tmp_path / "reused", born=born - 1000)  # the number lives, but it is another process's now
    assert seconds_to_begin(tmp_path / "reused") < 0.3


@pytest.mark.parametrize("elsewhere", [True, False], ids=["on another machine", "here, frozen"])
def test_an_owner_that_cannot_be_asked_is_waited_for_until_it_is_silent(tmp_path: Path, elsewhere: bool) -> None:
    owner(tmp_path, **({"space": "another machine", "pid": 1} if elsewhere else {}))
    assert 0.6 <= seconds_to_begin(tmp_path) < 3
    assert "waits" in (tmp_path / "000002.jsonl").read_text()


def test_two_claims_and_a_living_owner_never_meet(tmp_path: Path) -> None:
    """Whoever is asked for the run lets go; nobody begins before that, and the two that want it take turns."""
    inside, most, order = [0], [0], []

    def own(name: str) -> None:
        asked = threading.Event()
        lease = Lease.claim(tmp_path, asked=asked.set)
        lease.begin()
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        order.append(lease.path.name)
        asked.wait(0.5)
        time.sleep(0.05)  # saving
        inside[0] -= 1
        lease.release()

    threads = [threading.Thread(target=own, args=(str(number),)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert order == sorted(order)
    assert len(order) == 5


def test_one_that_waited_behind_a_lost_one_also_waits_for_those_before(tmp_path: Path) -> None:
    """The second claim was lost before it began, so that nobody has seen the first one let go."""
    released = threading.Event()
    first = Lease.claim(tmp_path, asked=released.set)
    first.begin()
    second = tmp_path / "000002.jsonl"
    second.write_text(json.dumps({"kind": "taken"} | myself() | {"born": 0}) + "\n")
    third = Lease.claim(tmp_path)
    waiting = threading.Thread(target=third.begin)
    waiting.start()
    assert released.wait(1)
    time.sleep(0.1)
    assert waiting.is_alive()
    first.release()
    waiting.join(1)
    assert not waiting.is_alive()
    third.release()


def test_an_owner_that_was_frozen_ends_itself_only_where_somebody_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = threading.Event()
    lease = Lease.claim(tmp_path, lost=lost.set)
    lease._last -= 100  # no line of its own for so long
    time.sleep(0.1)
    assert not lost.is_set()
    monkeypatch.setattr(leases, "BEAT", 100.0)
    time.sleep(0.1)
    lease._last -= 100
    (tmp_path / "000002.jsonl").write_text("")
    size = lease.path.stat().st_size
    lease.write("step", loss=1.0)
    assert lost.is_set()
    assert lease.path.stat().st_size == size


def test_an_owner_that_cannot_write_for_too_long_ends_itself(tmp_path: Path) -> None:
    lost = threading.Event()
    lease = Lease.claim(tmp_path / "there", lost=lost.set)
    (tmp_path / "there").rename(tmp_path / "gone")
    assert not lost.wait(0.1)
    assert lost.wait(2)
    assert lease.path.parent.name == "there"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/run"):
        Lease.claim(tmp_path / "file" / "run")


def test_who_is_alive(tmp_path: Path) -> None:
    assert newest(tmp_path / "never") is None
    lease = Lease.claim(tmp_path / "here")
    other = newest(tmp_path / "here")
    assert other is not None
    assert other.alive()
    assert other.who() == f"process {myself()['pid']} on {myself()['host']}"
    lease.release()
    assert not Observed(lease.path).alive()
    path = owner(tmp_path / "elsewhere", space="another machine")
    assert not Observed(path).alive()
    beat = threading.Timer(0.3, lambda: path.open("a").write('{"kind": "lives"}\n'))
    beat.start()
    assert Observed(path).alive()
    beat.join()


def test_a_follower_hears_every_line_once_over_owners_and_leaves_torn_ones(tmp_path: Path) -> None:
    owner(tmp_path)
    follower = Follower(tmp_path)
    assert follower.lines() == []
    path = tmp_path / "000002.jsonl"
    path.write_text('{"kind": "a"}\n{"kind": "b", "x"')
    assert follower.lines() == [{"kind": "a"}]
    with path.open("a") as file:
        file.write(": 1}\nno JSON\n")
    (tmp_path / "000003.jsonl").write_text('{"kind": "c"}\n')
    assert follower.lines() == [{"kind": "b", "x": 1}, {"kind": "c"}]
    assert follower.lines() == []


def test_a_number_that_was_just_taken_is_not_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that look at the same time see the same highest number."""
    path = owner(tmp_path)
    before = path.read_text()
    seen = iter([0, 1])
    monkeypatch.setattr(leases, "highest", lambda folder: next(seen))
    lease = Lease.claim(tmp_path)
    lease.release()
    assert lease.path.name == "000002.jsonl"
    assert path.read_text() == before
