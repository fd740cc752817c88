"""Runs that are killed at a chosen moment.

They are forked from the test's own process (which has imported everything), so that dozens of kills take seconds.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.loop import Training
from warmstart.train.progress import Reporter


def run_killed(recipe: Recipe, out: Path, arm_the_kill: Callable[[], None]) -> bool:
    """Runs in a forked child that kills itself where `arm_the_kill` says; True when it was killed."""
    child = os.fork()
    if child == 0:
        try:
            warnings.simplefilter("ignore")
            arm_the_kill()
            run(recipe, out, reporter=Reporter())
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def kill_at_step(step: int) -> Callable[[], None]:
    """Dies in the middle of an optimizer step: after the gradients, before the update."""

    def arm() -> None:
        original = Training.clip

        def clip(self: Training):  # type: ignore[no-untyped-def]
            if self.counts.step == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self)

        Training.clip = clip  # type: ignore[method-assign]

    return arm


def at_disk_call(number: int, happens: Callable[[], None]) -> Callable[[], None]:
    """Something happens at the n-th fsync, rename or replace of the process, before it is done."""

    def arm() -> None:
        count = [0]

        def counted(original):  # type: ignore[no-untyped-def]
            def call(*args, **kwargs):  # type: ignore[no-untyped-def]
                count[0] += 1
                if count[0] == number:
                    happens()
                return original(*args, **kwargs)

            return call

        for name in ("fsync", "rename", "replace"):
            setattr(os, name, counted(getattr(os, name)))

    return arm


def kill_at_disk_call(number: int) -> Callable[[], None]:
    """Dies at the n-th fsync, rename or replace: inside a save, between any two of its steps."""
    return at_disk_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
