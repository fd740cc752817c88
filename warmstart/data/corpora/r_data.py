"""Vectors of text out of a lazy-load database of R, without R.

`NAME.rdx` (gzip) is a serialised list whose `variables` say where each object is in `NAME.rdb`: (offset, size). There,
an object is 4 bytes of length and zlib data. Only what such a database of character vectors has is understood: R's XDR
format (version 2 or 3) with lists, integers, strings, names and their references.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from warmstart.data.corpora.unpack import LIMIT_BYTES, gunzip

NIL, REFERENCE, SYMBOL, PAIRS, CHARACTERS, LOGICAL, INTEGER, STRINGS, LIST = 254, 255, 1, 2, 9, 10, 13, 16, 19
HAS_ATTRIBUTES, HAS_TAG = 0x200, 0x400


def lazy_load(base: Path) -> dict[str, list[str]]:
    """The character vectors of a database by name.

    Args:
        base: the path without its ending.
    """
    places = _Values(gunzip(base.with_suffix(".rdx"))).value()["variables"]
    packed = base.with_suffix(".rdb").read_bytes()
    result = {}
    for name, (offset, size) in places.items():
        (length,) = struct.unpack(">I", packed[offset : offset + 4])
        if length > LIMIT_BYTES:
            raise ValueError(f"{name} says that it has {length} bytes")
        content = zlib.decompressobj().decompress(packed[offset + 4 : offset + size], length)
        result[name] = _Values(content).value()
    return result


class _Values:
    """Reads one serialised value."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0
        self._symbols: list[Any] = []
        if self._take(2) != b"X\n":
            raise ValueError("not R's XDR format")
        version = self._integer()
        self._take(8)  # versions of R
        if version == 3:
            self._take(self._integer())  # the encoding
        elif version != 2:
            raise ValueError(f"R's serialisation format {version} is not known")

    def value(self) -> Any:
        """A list is a dictionary where it has names; NULL is None."""
        flags = self._integer()
        kind = flags & 0xFF
        if kind == NIL:
            return None
        if kind == REFERENCE:
            return self._symbols[(flags >> 8 or self._integer()) - 1]
        if kind == SYMBOL:
            self._symbols.append(self.value())
            return self._symbols[-1]
        if kind == PAIRS:
            return self._pairs(flags)
        found: Any
        if kind == CHARACTERS:
            size = self._integer()
            return None if size < 0 else self._take(size).decode("utf-8")
        if kind in (INTEGER, LOGICAL):
            found = [self._integer() for _ in range(self._integer())]
        elif kind in (STRINGS, LIST):
            found = [self.value() for _ in range(self._integer())]
        else:
            raise ValueError(f"R values of type {kind} are not known")
        attributes = self.value() if flags & HAS_ATTRIBUTES else None
        names = (attributes or {}).get("names")
        return dict(zip(names, found, strict=True)) if kind == LIST and names else found

    def _pairs(self, flags: int) -> dict[str, Any]:
        """A linked list of (tag, value)."""
        result: dict[str, Any] = {}
        while flags & 0xFF == PAIRS:
            if flags & HAS_ATTRIBUTES:
                self.value()
            tag = self.value() if flags & HAS_TAG else str(len(result))
            result[tag] = self.value()
            flags = self._integer()
        if flags & 0xFF != NIL:
            raise ValueError("a list of R that does not end")
        return result

    def _integer(self) -> int:
        return int(struct.unpack(">i", self._take(4))[0])

    def _take(self, size: int) -> bytes:
        found = self._content[self._place : self._place + size]
        if size < 0 or len(found) != size:
            raise ValueError("R data that ends too early")
        self._place += size
        return found
