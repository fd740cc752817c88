"""The cache folder: what was made once is found again by the digest of what it was made from.

An entry is a folder. It is written beside its final place and renamed into it, so a reader sees a whole
entry or none; of two processes that make the same entry at once, the later one throws its own away. Arrays
are `.npy` files, opened as memory maps (never pickles); `meta.json` holds each file's size and checksum.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warmstart.disk import CANNOT_WRITE, sync
from warmstart.errors import DataError, UserError

CHECKSUM_LIMIT = 256 * 2**20  # larger files are checked by size alone: reading them would take longer than opening


def cache_folder() -> Path:
    """`$WARMSTART_CACHE`, or `~/.cache/warmstart`."""
    return Path(os.environ.get("WARMSTART_CACHE") or "~/.cache/warmstart").expanduser()


def digest(*content: Any) -> str:
    """32 hex digits over JSON values."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def entry(
    folder: Path,
    make: Callable[[Path], dict[str, Any]],
    *,
    notify: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The facts of a cache entry, which is made where it is missing or broken.

    Args:
        folder: the entry's place; its name is the digest of everything that decides the content.
        make: writes the files into the (temporary) folder that it is given and returns facts (JSON values).

    Raises:
        UserError: the disk is full or the cache cannot be written; nothing half-written stays behind.
    """
    facts, trouble = _open(folder)
    if facts is not None:
        return facts
    if trouble and notify:
        notify(f"warning: the cache entry {folder} is broken ({trouble}); it is made again")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        draft = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
        try:
            made = make(draft)
            files = {p.name: {"size": p.stat().st_size, "crc32": _crc(p)} for p in sorted(draft.iterdir())}
            (draft / "meta.json").write_text(json.dumps({"facts": made, "files": files}, indent=1), encoding="utf-8")
            for path in [*draft.iterdir(), draft]:
                sync(path)
            _publish(draft, folder)
            sync(folder.parent)
            return made
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        if error.errno in CANNOT_WRITE:
            raise UserError(
                f"cannot write the cache {folder.parent}: {os.strerror(error.errno or 0)}; "
                "free space or set WARMSTART_CACHE to another folder"
            ) from error
        raise


def file_digest(path: Path) -> str:
    """A digest of a file's content, read once: it is remembered under the file's path, size and time of
    change.

    So a corpus that is copied to another machine keeps its fingerprint, and a second start reads nothing.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        status = path.stat()
        key = digest(os.fsencode(path.resolve()).hex(), status.st_size, status.st_mtime_ns, status.st_ino)
        note = cache_folder() / "digests" / key
        try:
            remembered = note.read_text(encoding="ascii").strip()
            if len(remembered) == 32:
                return remembered
        except (OSError, ValueError):
            pass
        with path.open("rb") if status.st_size else io.BytesIO() as file:
            found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if time.time() - status.st_mtime > 2:  # a younger file may change again within the clock's grain
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            draft = note.with_name(f".{key}.{os.getpid()}")
            draft.write_text(found, encoding="ascii")
            draft.replace(note)
        except OSError:
            pass  # remembering is a convenience
    return found


def _open(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The facts of a whole entry, or None and what is wrong with it ('' where there is none)."""
    if not folder.exists():
        return None, ""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        for name, expected in meta["files"].items():
            path = folder / name
            size = path.stat().st_size
            if size != expected["size"]:
                return None, f"{name} has {size} bytes, not {expected['size']}"
            if _crc(path) != expected["crc32"]:
                return None, f"{name} does not match its checksum"
        return dict(meta["facts"]), ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"{type(error).__name__}: {error}"


def _publish(draft: Path, folder: Path) -> None:
    """Renames the draft into its place; where a whole entry has appeared meanwhile, that one stays."""
    while True:
        try:
            draft.rename(folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _open(folder)[0] is not None:
            return
        broken = Path(tempfile.mkdtemp(prefix=".tmp-broken-", dir=folder.parent))
        with contextlib.suppress(FileNotFoundError):  # another process moved it away
            folder.rename(broken / "old")
        shutil.rmtree(broken, ignore_errors=True)


def _sweep(parent: Path, age: float = 24 * 3600) -> None:
    """Removes drafts of processes that were killed."""
    for path in parent.glob(".tmp-*"):
        try:
            if time.time() - path.stat().st_mtime > age:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue


def _crc(path: Path) -> int | None:
    if path.stat().st_size > CHECKSUM_LIMIT:
        return None
    value = 0
    with path.open("rb") as file:
        while piece := file.read(2**20):
            value = zlib.crc32(piece, value)
    return value
