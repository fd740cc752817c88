"""Files and folders that are there whole or not at all, whatever kills the process or fills the disk.

The pattern is always the same: write beside the place, flush to the disk, rename. A reader sees the old one or the new
one, never half of it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import xxhash

from warmstart.errors import UserError

CANNOT_WRITE = {
    errno.EIO,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
}
"""What the operating system says where the user must make room, choose another place, or get permission."""


def errno_of(error: BaseException) -> int:
    """What the operating system said; 0 where it said nothing. Libraries written in Rust say it in words alone."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"(?:os error |Os \{ code: |errno )(\d+)", str(error))
    return int(found[1]) if found else 0


def checksum(path: Path) -> str:
    """xxh3 of a file's content (128 bits, in hex): against accidents, at the speed of memory."""
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flushes a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, text: str) -> Path:
    """Writes a text file; missing folders above it are made.

    Raises:
        UserError: it cannot be written; an earlier file is untouched.
    """
    draft = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with told(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_left(path)
            draft.write_text(text, encoding="utf-8", newline="\n")
            sync(draft)
            draft.replace(path)
        finally:
            if draft.exists():
                draft.unlink()
    return path


def remove_left(place: Path) -> None:
    """Removes drafts of `place` that killed processes left behind; they may be as large as a model."""
    for pattern in (".tmp-", ".old-"):
        for left in place.parent.glob(f".{place.name}{pattern}*"):
            pid = left.name.rpartition("-")[2]
            if pid.isdigit() and not psutil.pid_exists(int(pid)):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A draft folder beside `folder` that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        UserError: it cannot be written; an earlier folder is untouched.
    """
    draft = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    remove_left(folder)
    with told(folder):
        try:
            draft.mkdir(parents=True)
            yield draft
            for path in sorted(draft.rglob("*")):
                if path.is_file():
                    sync(path)
            sync(draft)
            old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
            if folder.exists():
                folder.rename(old)
            draft.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
            sync(folder.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def told(place: Path) -> Iterator[None]:
    """Turns what the operating system says of writing into one line for people.

    Raises:
        UserError: `place` cannot be written.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if errno_of(error) not in CANNOT_WRITE:
            raise
        raise UserError(f"cannot write {place}: {os.strerror(errno_of(error))}; nothing was changed") from error
