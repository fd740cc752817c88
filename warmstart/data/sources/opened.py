"""Files of rows, opened: decompressed with a limit, read line by line with a limit.

A few kilobytes of gzip or zstd unfold to gigabytes. A stream of rows costs no memory, however long it is, but a
reader that waits for the end of a line (or of a document) holds all of it. So a line has a largest length; and a file
that unfolds to far more than text ever does is refused, so that it does not take hours either.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from warmstart.errors import DataError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
LONGEST = 64 * 2**20
"""Bytes of a line, of a table's cell and of a document; the whole of Shakespeare has 5.5 MB."""
FREE = 2**30
"""Bytes that any file may unfold to."""
RATIO = 200
"""Times its own size that a larger one may unfold to; text shrinks to a third, logs to a fiftieth."""


def ending(path: Path) -> str:
    """The ending that says the form, compression left aside: `.jsonl` for `a.jsonl.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSIONS else path.suffix.lower()


def opened(path: Path) -> IO[bytes]:
    """A binary stream of the decompressed bytes; reading a file that is cut short raises OSError.

    Raises:
        TooMuch: while reading: it unfolds to more than a file of its size holds.
    """
    compression = COMPRESSIONS.get(path.suffix.lower())
    if compression is None:
        # what has no size is empty, or a file of the kernel, which may wait for ever
        return path.open("rb") if path.stat().st_size else io.BytesIO()
    import pyarrow

    stream = pyarrow.input_stream(str(path), compression=compression)
    return io.BufferedReader(_Counted(stream, path, max(FREE, RATIO * path.stat().st_size)), 2**16)


def lines(file: IO[bytes], where: Path) -> Iterator[str]:
    """Lines with `\\n`, without a byte-order mark; broken bytes stay visible as lone surrogates.

    Raises:
        TooMuch: a line is too long.
    """
    number = 0
    while raw := file.readline(LONGEST + 1):
        if len(raw) > LONGEST:
            raise TooMuch(f"{where}, line {number + 1}: longer than {LONGEST >> 20} MiB; that is no line of rows")
        line = raw.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape")
        number += 1
        yield line[:-2] + "\n" if line.endswith("\r\n") else line


def whole(file: IO[bytes], where: Path) -> str:
    """All of a file as one text; broken bytes stay visible as lone surrogates.

    Raises:
        TooMuch: it is too long for one document.
    """
    raw = file.read(LONGEST + 1)
    if len(raw) > LONGEST:
        raise TooMuch(
            f"{where}: longer than {LONGEST >> 20} MiB, too long for one document; set documents: line or paragraph"
        )
    return raw.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n")


class TooMuch(DataError):
    """A file that would take too much memory or time; what follows in it is not read."""


class _Counted(io.RawIOBase):
    """A stream of decompressed bytes that ends with an error where there are too many."""

    def __init__(self, stream: Any, path: Path, limit: int) -> None:
        self._stream, self._path, self._limit, self._read = stream, path, limit, 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        content = self._stream.read(len(target))
        self._read += len(content)
        if self._read > self._limit:
            raise TooMuch(
                f"{self._path}: unfolds to more than {self._limit >> 20:,} MiB, which is more than {RATIO} times its "
                "size; if that is right, unpack it first"
            )
        target[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()
