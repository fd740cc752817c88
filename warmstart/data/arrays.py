"""Arrays of numbers in `.npy` files that somebody gives: never pickles, and no memory for what a header only claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from warmstart.errors import DataError
from warmstart.places import expanded


def given_array(file: Path | str, what: str) -> np.ndarray:
    """The array of a file, mapped: an array that is longer than its file is an error before it takes memory.

    Args:
        what: the setting that names the file, for the message.

    Raises:
        DataError: there is no such file, or it is no `.npy` file of numbers.
    """
    try:
        found = np.load(expanded(file), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, MemoryError) as error:
        raise DataError(f"{what}: {file} cannot be read as a .npy file: {error}") from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise DataError(f"{what}: {file} cannot be read as a .npy file: it is an archive of several")
    return found
