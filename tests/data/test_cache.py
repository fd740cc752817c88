"""Cache entries: whole or absent, made again when broken, safe against each other."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from warmstart.data.cache import digest, entry, file_digest
from warmstart.errors import UserError


def make_text(text: str) -> Any:
    def make(draft: Path) -> dict[str, Any]:
        (draft / "text").write_text(text)
        return {"text": text}

    return make


def refuse(draft: Path) -> dict[str, Any]:
    raise AssertionError("made again")


def test_made_once(tmp_path: Path) -> None:
    assert entry(tmp_path / "a" / "key", make_text("one")) == {"text": "one"}
    assert entry(tmp_path / "a" / "key", refuse) == {"text": "one"}
    assert os.listdir(tmp_path / "a") == ["key"]


@pytest.mark.parametrize("damage", ["truncated", "altered", "removed", "meta", "empty meta"])
def test_broken_entries_are_made_again_loudly(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "key"
    entry(folder, make_text("some text"))
    if damage == "removed":
        (folder / "text").unlink()
    else:
        name = "meta.json" if "meta" in damage else "text"
        content = {"truncated": "some", "altered": "same size", "meta": "{", "empty meta": "[]"}[damage]
        (folder / name).write_text(content)
    notes: list[str] = []
    assert entry(folder, make_text("some text"), notify=notes.append) == {"text": "some text"}
    assert "broken" in notes[0]
    assert (folder / "text").read_text() == "some text"
    assert entry(folder, refuse) == {"text": "some text"}
    assert os.listdir(tmp_path) == ["key"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(draft: Path) -> dict[str, Any]:
        (draft / "half").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        entry(tmp_path / "key", fail)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    def full(draft: Path) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"cannot write the cache .*No space left.*WARMSTART_CACHE"):
        entry(tmp_path / "key", full)
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the cache"):
        entry(tmp_path / "file" / "key", make_text("one"))


@pytest.mark.parametrize("broken", [False, True])
def test_two_at_once(tmp_path: Path, broken: bool) -> None:
    """Both make it, the later one throws its own away; a broken entry in the way goes first."""
    folder = tmp_path / "key"
    if broken:
        entry(folder, make_text("one"))
        (folder / "text").write_text("xxx")
    together = threading.Barrier(2, timeout=20)
    results: list[dict[str, Any]] = []

    def make(draft: Path) -> dict[str, Any]:
        together.wait()
        return make_text("one")(draft)

    threads = [threading.Thread(target=lambda: results.append(entry(folder, make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{"text": "one"}] * 2
    assert entry(folder, refuse) == {"text": "one"}
    assert os.listdir(tmp_path) == ["key"]


def test_drafts_of_killed_processes_are_swept(tmp_path: Path) -> None:
    old, young = tmp_path / ".tmp-old", tmp_path / ".tmp-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    entry(tmp_path / "key", make_text("one"))
    assert sorted(os.listdir(tmp_path)) == [".tmp-young", "key"]


def test_digest_tells_values_apart() -> None:
    assert digest("a", ["b"]) == digest("a", ["b"])
    assert len({digest("a", "b"), digest("ab"), digest(["a", "b"]), digest("a", "b", None)}) == 4


def test_file_digest_is_remembered_and_follows_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a"
    path.write_text("one")
    os.utime(path, (1e9, 1e9))
    before = file_digest(path)
    assert len(os.listdir(tmp_path / "cache" / "digests")) == 1
    monkeypatch.setattr("hashlib.file_digest", refuse)
    assert file_digest(path) == before
    monkeypatch.undo()
    path.write_text("two")
    assert file_digest(path) != before
