"""The owners of a lease (`lease.py`), as their files show them: who they are, whether they live, what they say."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import psutil

SILENCE = 60.0
"""Seconds without a sign of life after which nobody owns the run."""

Line = dict[str, Any]


class Observed:
    """Another owner, as its file shows it."""

    def __init__(self, path: Path) -> None:
        self.path, self._size, self._grew = path, -1, clock()

    def let_go(self) -> bool:
        """Whether it has."""
        text = self._read()
        if len(text) != self._size:
            self._size, self._grew = len(text), clock()
        lines = _lines(text)
        if lines and (lines[-1]["kind"] == "released" or _is_gone(lines[0])):
            return True
        return clock() - self._grew > SILENCE

    def alive(self) -> bool:
        """Whether there are signs of life; this may take as long as a beat, where the machine is another."""
        lines = _lines(self._read())
        if lines and not _is_gone(lines[0]) and _is_here(lines[0]) and lines[-1]["kind"] != "released":
            return True
        while not self.let_go():
            before = self._size
            time.sleep(0.2)
            if len(self._read()) > before:
                return not self.let_go()
        return False

    def who(self) -> str:
        """It in words."""
        first = (_lines(self._read()) or [{}])[0]
        return f"process {first.get('pid', '?')} on {first.get('host', 'an unknown machine')}"

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def newest(folder: Path) -> Observed | None:
    """The owner with the highest number; None where there never was one."""
    number = highest(folder)
    return Observed(folder / f"{number:06d}.jsonl") if number else None


class Follower:
    """Reads what owners write, in order, each line once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._number, self._place = folder, highest(folder) + 1, 0

    def lines(self) -> list[Line]:
        """What has come since the last call."""
        found: list[Line] = []
        while True:
            path = self.folder / f"{self._number:06d}.jsonl"
            try:
                with path.open("rb") as file:
                    file.seek(self._place)
                    text = file.read()
            except OSError:
                return found
            whole = text[: text.rfind(b"\n") + 1]  # a line that is just being written comes the next time
            self._place += len(whole)
            found += _lines(whole.decode("utf-8", errors="replace"))
            if not self.folder.joinpath(f"{self._number + 1:06d}.jsonl").exists():
                return found
            self._number, self._place = self._number + 1, 0


def first_line(path: Path) -> Line:
    """Who an owner is.

    Raises:
        OSError, ValueError: there is no such file, or nothing in it.
    """
    with path.open(encoding="utf-8") as file:
        return dict(json.loads(file.readline()))


def before(path: Path) -> list[Path]:
    """The owners that may still be at work: all down to the latest one that had waited for those before it."""
    found = []
    for number in range(int(path.stem) - 1, 0, -1):
        earlier = path.with_name(f"{number:06d}.jsonl")
        found.append(earlier)
        if any(line["kind"] == "begins" for line in _lines(Observed(earlier)._read())):
            break
    return found


def highest(folder: Path) -> int:
    try:
        return max((int(path.stem) for path in folder.glob("[0-9]*.jsonl")), default=0)
    except OSError:
        return 0


def _lines(text: str) -> list[Line]:
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [line for line in found if isinstance(line, dict) and "kind" in line]


def myself() -> Line:
    me = psutil.Process()
    return {"host": socket.gethostname(), "space": _space(), "pid": me.pid, "born": me.create_time()}


def _space() -> str:
    """Where process numbers mean the same: one boot of one machine, and in it one container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _is_here(owner: Line) -> bool:
    return owner.get("space") == _space()


def _is_gone(owner: Line) -> bool:
    """Whether an owner's process is known to have ended."""
    if not _is_here(owner):
        return False
    try:
        process = psutil.Process(owner["pid"])
        return abs(process.create_time() - owner["born"]) > 1 or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def clock() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
