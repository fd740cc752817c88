"""One process at a time for each run, though nodes get lost and come back.

A folder of numbered files, each the log of one owner: `000001.jsonl`, `000002.jsonl`, ... Whoever creates the file with
the highest number, which the file system lets one process do alone, is to own the run; it begins once every owner
before it has let go. An owner has let go when

- it wrote so (`released`): asked to stop, finished, or because it saw that a higher number was there: then it stops as
  at Ctrl-C, with its state saved;
- or its process is gone, which can be seen from the same machine at once;
- or its file has not grown for `SILENCE` seconds, watched by the clock of the one who waits: no clocks are compared.

An owner adds a line every `BEAT` seconds, and looks whether somebody claims the run. Where it finds a claim after `OWN`
seconds (less than `SILENCE`) without a line of its own, or can neither write nor look for so long, it ends its own
process at once, as a power cut would: the state on the disk is whole whenever that happens. A laptop that slept finds
no claim, and goes on.

What this promises: two processes do not train one run at once, be it after a crash, a lost node or a lost network.
What it does not: a process that was frozen whole (a suspended virtual machine, a file system that hung) for longer
than `SILENCE` may still finish the one write that it was in, and up to `BEAT` seconds of steps, before it ends itself.
Whatever it writes is the same run at an earlier step, so that a state stays a state; at worst the new owner's newest
state is set back, or a line of metrics is there twice. And all of it stands on a file system that keeps what POSIX says
of `O_EXCL` and of reading after closing (local ones, NFS from version 3, Lustre, GPFS; not every mounted object store).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warmstart.disk import CANNOT_WRITE
from warmstart.errors import UserError
from warmstart.studies.owners import Observed, before, clock, highest, myself

BEAT = 5.0
"""Seconds between two signs of life."""
OWN = 40.0
"""Seconds without one after which an owner that is not alone ends itself."""
LOOK_EVERY = 0.2
"""Seconds between two looks at an owner that is waited for."""
LOST = 75
"""Exit code of an owner that ended itself."""


class Lease:
    """The right to carry a run out, and the log of who has it. Made by `claim`; `begin` waits until it holds.

    Args:
        path: the owner's file.
        asked: called once, from another thread, when somebody else claims the run.
        lost: called, from another thread, when the lease could not be kept.
    """

    def __init__(self, path: Path, asked: Callable[[], None], lost: Callable[[], None]) -> None:
        self.path, self._asked, self._lost = path, asked, lost
        self._following = path.with_name(f"{int(path.stem) + 1:06d}.jsonl")
        self._over = threading.Event()
        self._last = clock()
        self._writing = threading.Lock()

    @classmethod
    def claim(
        cls, folder: Path, asked: Callable[[], None] = lambda: None, lost: Callable[[], None] = lambda: os._exit(LOST)
    ) -> Lease:
        """Takes the next number.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while True:
                path = folder / f"{highest(folder) + 1:06d}.jsonl"
                try:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                    break
                except FileExistsError:
                    continue
            lease = cls(path, asked, lost)
            lease.write("taken", **myself())
        except OSError as error:
            if error.errno not in CANNOT_WRITE:
                raise
            raise UserError(f"cannot write {folder}: {os.strerror(error.errno or 0)}") from error
        threading.Thread(target=lease._beat, name="lease", daemon=True).start()
        return lease

    def begin(self) -> None:
        """Returns when every owner before has let go; writes once whom it waits for (`waits`)."""
        others, told = [Observed(path) for path in before(self.path)], False
        while others := [other for other in others if not other.let_go()]:
            if not told:
                self.write("waits", text=f"waits until {others[0].who()} lets go of it")
                told = True
            time.sleep(LOOK_EVERY)
        self.write("begins")

    def write(self, kind: str, **values: Any) -> None:
        """Adds a line; a sign of life.

        Raises:
            OSError: it cannot be written.
        """
        with self._writing:
            if self._over.is_set():
                return
            if clock() - self._last > OWN and self._following.exists():
                self._over.set()
                self._lost()
                return
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind} | values) + "\n")
            self._last = clock()

    def release(self) -> None:
        """Lets go; nothing is written after this."""
        with contextlib.suppress(OSError):  # whoever comes next waits for silence
            self.write("released")
        self._over.set()

    def _beat(self) -> None:
        asked = False
        while not self._over.wait(BEAT):
            try:
                self.write("lives")
                if not asked and self._following.exists():
                    asked = True
                    self._asked()
            except OSError:
                if clock() - self._last > OWN:
                    self._over.set()
                    self._lost()
