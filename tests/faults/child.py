"""A run in a forked child with a fault armed in it, and how it ended.

Forked from the test's own process, which has imported everything: dozens of runs take seconds, and whatever is patched
or limited in the child is gone with it.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults.notes import Notes

from warmstart.errors import Interrupted, UserError
from warmstart.recipe import Recipe
from warmstart.run_recipe import run


@dataclass(frozen=True)
class End:
    """How a run ended: `done`, `refused` (one line for the user), `interrupted`, `killed` or `crashed`, what it said at
    last, and all notes before."""

    how: str
    said: str
    told: list[str]


def nothing() -> None:
    """No fault."""


def run_in_child(recipe: Recipe, out: Path, arm: Callable[[], None] = nothing) -> End:
    """Carries the recipe out in a child, after `arm` has been called there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        told: list[str] = []
        warnings.showwarning = lambda message, *_, **__: told.append(str(message))  # type: ignore[assignment]
        try:
            arm()
            run(recipe, out, reporter=Notes(told))
            how, said = "done", ""
        except UserError as error:
            how, said = "refused", str(error)
        except (Interrupted, KeyboardInterrupt) as error:
            how, said = "interrupted", str(error)
        except BaseException:
            how, said = "crashed", traceback.format_exc()
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps([how, said, told]))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return End("killed", signal.Signals(os.WTERMSIG(status)).name, [])
    return End(*json.loads(text))
