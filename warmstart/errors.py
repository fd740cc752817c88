"""Errors that a user can act on.

Everything that is the user's to mend (a recipe, a file, a model, a full disk) is raised as a `UserError`: its message
is one clear line that says what was found, where, and what is allowed. The command line prints it without a traceback
and exits with code 2. Anything else that escapes is a defect of warmstart and keeps its traceback.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

from warmstart.visible import one_line


class UserError(Exception):
    """Something that the user can mend; the message is for them: one line for each problem, the first `MOST` of them.

    A problem is one line whatever a name or a file put into it: control characters become visible, and much too long
    ones are shortened in the middle.
    """

    MOST = 20

    def __init__(self, *problems: str) -> None:
        lines = [one_line(str(problem)) for problem in problems[: self.MOST]]
        if len(problems) > self.MOST:
            lines.append("... and more problems")
        super().__init__("\n".join(lines))


class RecipeError(UserError):
    """A recipe or study file that cannot be used as it is."""


class ModelError(UserError):
    """A model, a tokenizer or a checkpoint that cannot be used as it is."""


class DataError(UserError):
    """A corpus, a file or a row that cannot be used as it is."""


class StateError(UserError):
    """A saved state that is broken or does not belong to this run."""


class Interrupted(Exception):
    """The user (or the system) asked the run to stop; its state is saved."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the closest allowed name, or an empty string where none is close."""
    if len(str(name)) > 100:  # no name that is meant; comparing it would take long
        return ""
    known = [str(a) for a in itertools.islice(allowed, 1000)]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def of_a_library(error: BaseException) -> bool:
    """Whether an error comes from the work and not from outside (Ctrl-C, the end of the process).

    What breaks inside a library in Rust is no `Exception`: a `PanicException` would pass every `except Exception`.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
