"""Whole or not at all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from warmstart.disk import whole_folder, write_whole
from warmstart.errors import UserError


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_whole(tmp_path / "new" / "r.json", "old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device; nothing was changed"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "model"
    with whole_folder(place) as draft:
        (draft / "a").write_text("old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="nothing was changed"), whole_folder(place) as draft:
        (draft / "a").write_text("new")
    assert (place / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_an_error_inside_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "model"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "model"
    for name in ("a", "b"):
        with whole_folder(place) as draft:
            (draft / name).write_text(name)
    assert [p.name for p in place.iterdir()] == ["b"]


def test_drafts_of_killed_processes_are_removed(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with whole_folder(tmp_path / "model") as draft:
            (draft / "large").write_text("half of it")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    alive = tmp_path / f".model.tmp-{os.getppid()}"
    alive.mkdir()
    (tmp_path / ".notes.json.tmp-99999999").write_text("{")
    assert len(list(tmp_path.iterdir())) == 3
    with whole_folder(tmp_path / "model") as draft:
        (draft / "large").write_text("all of it")
    write_whole(tmp_path / "notes.json", "{}")
    assert {p.name for p in tmp_path.iterdir()} == {"model", "notes.json", alive.name}
