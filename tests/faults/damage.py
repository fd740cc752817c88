"""A byte of a file that is another one than was written."""

from __future__ import annotations

import random
from pathlib import Path


def files_of(folder: Path) -> list[Path]:
    """All files below a folder, by their relative paths."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def flip(file: Path, draw: random.Random) -> int:
    """Flips one bit of a file at a random place, which is returned."""
    content = bytearray(file.read_bytes())
    place = draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return place
