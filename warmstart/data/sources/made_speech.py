"""What sources that make speech share: sounds and their rows are made once and kept in the cache.

A row has `text` (what is said), `audio` (a place in the cache, see `warmstart/data/media.py`) and what the voice was.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from warmstart.data.cache import cache_folder, digest, entry
from warmstart.data.corpora.store import ROWS, read_rows, write_rows
from warmstart.data.sources import Row


def kept_rows(kind: str, fingerprint: str, made: Iterator[Row]) -> Iterator[Row]:
    """Rows whose `audio` is given as the bytes of a file, from the cache where they were made before.

    Args:
        kind: of the source; a folder of the cache.
        fingerprint: of everything that decides the rows.
        made: makes them; only read where they are not in the cache yet.
    """
    folder = cache_folder() / kind / digest(kind, fingerprint)

    def make(draft: Path) -> dict[str, Any]:
        count, size, found = write_rows(draft / ROWS, made)
        return {"rows": count, "text_bytes": size, "digest": found}

    entry(folder, make)
    yield from read_rows(folder)


def wav_bytes(samples: np.ndarray, rate: int) -> bytes:
    """Samples between -1 and 1, `(samples,)`, as a WAV file of 16 bits."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    return out.getvalue()
