"""Takes the few files that are needed out of an archive that nobody has to trust.

Wheels and zips, `.tar.gz`/`.tgz`, and Debian packages (an `ar` file around a tar file; read here with the standard
library, so that no client is needed and the same checks hold for all). Links are never made, names that lead out of
the folder end the extraction, and bytes are counted while they come, so that a small archive cannot fill the disk.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from warmstart.disk import CANNOT_WRITE
from warmstart.errors import DataError

LIMIT_BYTES = 512 * 2**20  # extracted, per archive; the largest corpus here has 48 MB
LIMIT_FILES = 100_000
PIECE = 2**20
LIMIT_STREAM = 4 * 2**30  # decompressed, per tar file, with all that is not extracted
# beside the formats' own errors: another compression, a password, a header that makes no sense
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, struct.error),
)

ITS_OWN = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}  # an archive that has `a` as a file and `a/b` in it


def unpack(archive: Path, patterns: Sequence[str], folder: Path) -> list[Path]:
    """Extracts the files whose path inside the archive matches a pattern to `folder / path`; sorted.

    Raises:
        DataError: the archive is damaged, unsafe or of an unknown kind, or nothing in it matches a pattern.
    """
    found: set[str] = set()
    missing = set(patterns)
    budget = LIMIT_BYTES
    try:
        for name, file in _members(archive):
            path = _safe(name, archive)
            fits = [pattern for pattern in patterns if fnmatchcase(path, pattern)]
            if not fits or file is None:
                continue
            if path in found or len(found) == LIMIT_FILES:
                raise DataError(f"{archive.name}: holds '{path}' twice or too many files; it is not extracted")
            found.add(path)
            missing -= set(fits)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                while piece := file.read(PIECE):
                    budget -= len(piece)
                    if budget < 0:
                        raise DataError(
                            f"{archive.name}: more than {LIMIT_BYTES >> 20} MiB inside; it is not extracted"
                        )
                    out.write(piece)
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno in CANNOT_WRITE - ITS_OWN:
            raise
        raise DataError(f"{archive.name}: damaged archive: {type(error).__name__}: {error}") from error
    if missing:
        raise DataError(f"{archive.name}: there is no file '{min(missing)}' in it; is it another version?")
    return [folder / path for path in sorted(found)]


def gunzip(path: Path, limit: int = LIMIT_BYTES) -> bytes:
    """The content of a `.gz` (or `.dict.dz`) file.

    Raises:
        DataError: damaged, or larger than `limit` bytes.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(limit + 1)
    except (*DAMAGED, OSError) as error:
        raise DataError(f"{path.name}: damaged file: {error}") from error
    if len(content) > limit:
        raise DataError(f"{path.name}: more than {limit:,} bytes inside")
    return content


def text_digest(folder: Path, files: Sequence[Path]) -> str:
    """sha256 over extracted files: their paths in the folder and their contents (of `.gz` files what is inside)."""
    digest = hashlib.sha256()
    for path in sorted(files):
        content = gunzip(path) if path.suffix == ".gz" else path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """(path, content) of everything in an archive, in its order; None for what is not a plain file."""
    name = archive.name
    if name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.filename:
                    raise DataError(f"{name}: damaged archive: a file in it has no name")
                plain = not info.is_dir() and (info.external_attr >> 16) & 0o170000 in (0, 0o100000)
                with opened.open(info) as file:
                    yield info.filename, file if plain else None
    elif name.endswith((".tgz", ".tar.gz")):
        with gzip.open(archive) as unpacked, _tar(unpacked, archive) as tar:
            yield from _tar_members(tar, archive)
    elif name.endswith(".deb"):
        with archive.open("rb") as file, _data_of_deb(file, archive) as unpacked, _tar(unpacked, archive) as tar:
            yield from _tar_members(tar, archive)
    else:
        raise DataError(f"{name}: not an archive that can be read; known: .whl, .zip, .tgz, .tar.gz, .deb")


def _tar(unpacked: Any, archive: Path) -> tarfile.TarFile:
    """A tar file that is read once, from front to back, and not without end."""
    return tarfile.open(fileobj=cast(IO[bytes], _Limited(unpacked, archive)), mode="r|")


def _tar_members(tar: tarfile.TarFile, archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    for member in tar:
        if member.issym() or member.islnk():
            # A link is never made; one that leads out of the archive says what kind of archive this is.
            start = PurePosixPath(member.name).parent if member.issym() else PurePosixPath()
            if not member.linkname.startswith("/"):
                _safe((start / member.linkname).as_posix(), archive, climb=True)
        yield member.name, tar.extractfile(member) if member.isreg() else None


def _safe(name: str, archive: Path, climb: bool = False) -> str:
    """The path inside the archive, without `./`.

    Args:
        climb: `..` is allowed as long as the path stays inside.
    """
    parts: list[str] = []
    for part in name.split("/"):
        if part == ".." and climb and parts:
            parts.pop()
        elif part == "..":
            parts = ["/"]
            break
        elif part not in ("", "."):
            parts.append(part)
    if name.startswith("/") or parts[:1] == ["/"] or "\\" in name or "\0" in name or ":" in name.split("/", 1)[0]:
        raise DataError(f"{archive.name}: the path {name[:80]!r} leads out of the archive; it is not extracted")
    return "/".join(parts)


def _data_of_deb(file: IO[bytes], archive: Path) -> Any:
    """The decompressed stream of `data.tar.*` in a Debian package: an ar file with headers of 60 bytes."""
    if file.read(8) != b"!<arch>\n":
        raise DataError(f"{archive.name}: damaged archive: not a Debian package")
    while len(header := file.read(60)) == 60:
        name, size = header[:16].decode("latin-1").strip().rstrip("/"), header[48:58].strip()
        if header[58:] != b"`\n" or not size.isdigit():
            break
        if name.startswith("data.tar"):
            section: Any = _Section(file, int(size))
            openers: dict[str, Any] = {"tar": contextlib.nullcontext, "gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}
            if name.rpartition(".")[2] not in openers:
                raise DataError(f"{archive.name}: {name} is compressed in a way that cannot be read here")
            return openers[name.rpartition(".")[2]](section)
        file.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise DataError(f"{archive.name}: damaged archive: a Debian package without data")


class _Limited:
    """A decompressed stream that ends with an error where there is too much of it: what is only passed over takes time,
    and the headers of a tar file are held in memory."""

    def __init__(self, file: Any, archive: Path) -> None:
        self._file, self._archive, self._left = file, archive, LIMIT_STREAM

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(f"{self._archive.name}: more than {LIMIT_STREAM >> 30} GiB inside; it is not extracted")
        return content


class _Section(io.RawIOBase):
    """The next `size` bytes of a file, as a file of its own."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(content)
        return content
