"""Paths that a recipe or a row names, looked at without an exception.

`pathlib` raises for a name of 5,000 characters, for a zero byte and for `~nobody`, where the answer is simply that
there is no such file.
"""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with `~` replaced, where there is such a user."""
    return Path(os.path.expanduser(path))


def is_file(path: str | Path) -> bool:
    """Whether there is an ordinary file; a device or a pipe, which may never end, is none."""
    return os.path.isfile(path)


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder."""
    return os.path.isdir(path)
