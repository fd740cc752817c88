"""Runs of the command line in processes of their own: one, or several under `torch.distributed.run`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

MODULE = "faults.command"
TESTS = Path(__file__).resolve().parents[1]


class Started:
    """A run that has been started.

    Attributes:
        process: it, or its launcher.
    """

    def __init__(self, recipe: Path, out: Path, *, processes: int = 1, options: tuple[str, ...] = ()) -> None:
        launch = [sys.executable, "-m"]
        if processes > 1:
            launch += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
        paths = [str(TESTS), str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "500"}
        command = [*launch, MODULE, "run", str(recipe), "--out", str(out), *options]
        self._files = [(out.parent / f"{out.name}.{name}").open("w+") for name in ("out", "err")]
        self.process = subprocess.Popen(command, stdout=self._files[0], stderr=self._files[1], env=environment)

    def wait_for(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Until something is so; fails where the run ends before."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, "the run ended too early: " + self.said()
            assert time.monotonic() < end, "it took too long"
            time.sleep(0.01)

    def rank(self, number: int) -> int:
        """The process id of one of several."""
        for place in Path("/proc").iterdir():
            if place.name.isdigit() and _parent(place) == self.process.pid:
                variables = (place / "environ").read_bytes().split(b"\0")
                if f"RANK={number}".encode() in variables:
                    return int(place.name)
        raise AssertionError(f"there is no rank {number}")

    def end(self, seconds: float = 120) -> int:
        """Waits, and gives the exit code."""
        return self.process.wait(seconds)

    def said(self) -> str:
        """What it wrote to stderr."""
        self._files[1].flush()
        return Path(self._files[1].name).read_text()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _parent(place: Path) -> int:
    try:
        return int((place / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1
