"""Errors that a user can act on.

Everything that is the user's to mend (a recipe, a file, a model, a full disk) is raised as a `UserError`: its message
is one clear line that says what was found, where, and what is allowed. The command line prints it without a traceback
and exits with code 2. Anything else that escapes is a defect of warmstart and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that the user can mend; the message is for them."""


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
    close = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
