"""One run in a process of its own, on whatever machine that is.

An order holds all that a worker must know, as plain values: it travels to other machines. The study's folder is not
sent but shared; whether it is the same folder there, a worker finds out first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.data.engine import Engine
from warmstart.errors import Interrupted, UserError
from warmstart.forecast.stopping import Stopped, Watch
from warmstart.studies.lease import Lease
from warmstart.studies.owners import Line, first_line
from warmstart.train.progress import Reporter

if TYPE_CHECKING:
    from warmstart.recipe import Recipe

STEPS_EVERY = 0.5
"""Seconds between two lines about steps."""


@dataclass(frozen=True)
class Order:
    """A run to carry out.

    Attributes:
        recipe: in its plain form.
        folder: the run's folder, absolute.
        lease: the folder of the run's lease.
        study: the file of the study's own lease.
        owner: its first line: that the file is here and says so shows that the folder is the same one.
        home: the working folder that relative paths of the recipe begin at.
        versions: of the packages that results depend on.
        threads: that PyTorch computes with; 0: what it takes by itself.
        engine: where the run's row steps run.
        watch, metric: what ends the run before its time.
    """

    title: str
    recipe: dict[str, Any]
    folder: str
    lease: str
    study: str
    owner: Line
    home: str
    versions: dict[str, str]
    resume: bool
    threads: int
    engine: Engine
    watch: Watch | None = None
    metric: str = ""


@dataclass(frozen=True)
class Word:
    """How a run ended: `finished`, `stopped` (it cannot win), `interrupted` (its state is saved), `failed` (the user
    can mend it), `broken` (with a traceback) or `lost` (its process ended without a word)."""

    kind: str
    text: str = ""


class Told(Reporter):
    """Writes a run's events into the log of its lease; steps at most twice a second."""

    def __init__(self, lease: Lease) -> None:
        self.lease, self._last = lease, 0.0

    def event(self, kind: str, **values: Any) -> None:
        now = time.monotonic()
        if kind == "note" or (kind == "step" and now - self._last < STEPS_EVERY):
            return
        if kind == "step":
            self._last = now
        with contextlib.suppress(OSError):  # what is shown may have holes; the lease knows how long that may last
            self.lease.write(kind, **values)


def work(order: Order) -> Word:
    """Carries an order out."""
    # A terminal sends Ctrl-C to its whole process group; a run that heard it there and again from the study would take
    # the second for "stop at once" and not save. So it hears the study alone.
    if os.getpgrp() != os.getpid():
        os.setpgrp()
    lease = None
    try:
        _check_place(order)
        os.chdir(order.home)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray's processes are born deaf to it
        lease = Lease.claim(Path(order.lease), asked=_save_and_stop)
        lease.begin()
        return _carry_out(order, lease)
    except (Interrupted, KeyboardInterrupt) as error:
        return Word("interrupted", str(error))
    except UserError as error:
        return Word("failed", str(error))
    except Exception:
        return Word("broken", traceback.format_exc())
    finally:
        if lease is not None:
            lease.release()


def _save_and_stop() -> None:
    """As Ctrl-C does, from another thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _carry_out(order: Order, lease: Lease) -> Word:
    import torch

    from warmstart.recipe import Recipe
    from warmstart.run_recipe import run

    if order.threads:
        torch.set_num_threads(order.threads)
    read = Recipe.model_validate(order.recipe)
    try:
        run(read, order.folder, resume=order.resume, reporter=_reporter(order, read, lease), engine=order.engine)
    except Stopped:
        return Word("stopped")
    return Word("finished")


def _reporter(order: Order, recipe: Recipe, lease: Lease) -> Reporter:
    if order.watch is None:
        return Told(lease)
    from warmstart.studies.watching import Watched

    return Watched(Told(lease), order.watch, order.metric, recipe, Path(order.folder))


def _check_place(order: Order) -> None:
    """This machine sees the study's folder, and computes with the same packages.

    Raises:
        UserError: it does not; in one line.
    """
    from warmstart.provenance import versions

    here = socket.gethostname()
    try:
        same = first_line(Path(order.study)) == order.owner
    except (OSError, ValueError):
        same = False
    if not same:
        raise UserError(
            f"{here} does not see the study's folder {Path(order.study).parents[2]}; "
            "--out must be on a file system that all nodes share, at the same path"
        )
    if not Path(order.home).is_dir():
        raise UserError(
            f"{here} does not see {order.home}, where the study was started and relative paths begin; "
            "start it in a folder that all nodes share"
        )
    own = versions()
    other = [
        f"{name} {own.get(name)} (the study: {version})"
        for name, version in order.versions.items()
        if own.get(name) != version
    ]
    if other:
        raise UserError(
            f"{here} has other packages than the study: {', '.join(other)}; results would not be those of one"
        )
