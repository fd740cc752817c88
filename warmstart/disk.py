"""Files and folders that are there whole or not at all, whatever kills the process or fills the disk.

The pattern is always the same: write beside the place, flush to the disk, rename. A reader sees the old one or the new
one, never half of it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from warmstart.errors import UserError

CANNOT_WRITE = {
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
    with _told(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(text, encoding="utf-8", newline="\n")
            sync(draft)
            draft.replace(path)
        finally:
            if draft.exists():
                draft.unlink()
    return path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A draft folder beside `folder` that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        UserError: it cannot be written; an earlier folder is untouched.
    """
    draft = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    with _told(folder):
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
def _told(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        raise UserError(f"cannot write {place}: {os.strerror(error.errno or 0)}; nothing was changed") from error
