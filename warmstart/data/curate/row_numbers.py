"""Sets of row numbers, as sorted arrays: 8 bytes a row, and quick to send to other processes."""

from __future__ import annotations

import numpy as np


def flags(rows: list[int], among: np.ndarray) -> list[bool]:
    """Whether each row number is in `among`, int64 `(any,)`, ascending."""
    numbers = np.asarray(rows, dtype=np.int64)
    if not len(among):
        return [False] * len(numbers)
    places = np.minimum(np.searchsorted(among, numbers), len(among) - 1)
    return list((among[places] == numbers).tolist())
