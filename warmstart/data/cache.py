"""The cache folder: what was made once is found again by the digest of what it was made from.

An entry is a folder. It is written beside its final place and renamed into it, so a reader sees a whole
entry or none; of two processes that make the same entry at once, the later one throws its own away. Arrays
are `.npy` files, opened as memory maps (never pickles); `meta.json` holds each file's size and checksum, and its own.

Every file is read once when its entry is opened, to compare its checksum: a broken entry is made again. The price is
the time to read it (xxh3: 6 GB/s where the file is in memory, else the speed of the disk), once for each process.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warmstart.disk import CANNOT_WRITE, checksum, errno_of, sync
from warmstart.errors import DataError, UserError


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
    if trouble:
        told = f"the cache entry {folder} is broken ({trouble}); it is made again"
        if notify:
            notify(f"warning: {told}")
        else:
            warnings.warn(told, stacklevel=2)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        draft = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
        try:
            made = make(draft)
            files = {p.name: {"size": p.stat().st_size, "xxh3": checksum(p)} for p in sorted(draft.iterdir())}
            meta = json.loads(json.dumps({"facts": made, "files": files}))
            (draft / "meta.json").write_text(json.dumps(meta | {"digest": digest(meta)}, indent=1), encoding="utf-8")
            for path in [*draft.iterdir(), draft]:
                sync(path)
            _publish(draft, folder)
            sync(folder.parent)
            return made
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except UserError:
        raise
    except Exception as error:
        if (said := errno_of(error)) in CANNOT_WRITE:
            raise UserError(
                f"cannot write the cache {folder.parent}: {os.strerror(said)}; "
                "free space or set WARMSTART_CACHE to another folder"
            ) from error
        raise


@functools.cache
def trouble_with(path: Path) -> str:
    """What is wrong with a file of an entry that is read without opening the entry; '' where nothing is, or where the
    file belongs to none. Looked at once in each process."""
    try:
        meta = json.loads((path.parent / "meta.json").read_text(encoding="utf-8"))
        expected = meta["files"][path.name].get("xxh3")
        found = checksum(path) if expected is not None else None
    except FileNotFoundError:
        return "" if path.is_file() else "it is gone"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if found == expected else "it does not match its checksum"


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
            remembered, _, check = note.read_text(encoding="ascii").partition(" ")
            if check == digest(key, remembered):
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
            draft.write_text(f"{found} {digest(key, found)}", encoding="ascii")
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
        if (own := meta.pop("digest", None)) is not None and own != digest(meta):
            return None, "meta.json does not match its own checksum"
        if unknown := set(meta) - {"files", "facts"}:  # a name that flipped, perhaps that of the checksum
            return None, f"meta.json has the unknown entries {sorted(unknown)}"
        for name, expected in meta["files"].items():
            path = folder / name
            size = path.stat().st_size
            if size != expected["size"]:
                return None, f"{name} has {size} bytes, not {expected['size']}"
            kind, found = ("xxh3", checksum) if "xxh3" in expected else ("crc32", _crc)
            if expected[kind] is not None and found(path) != expected[kind]:
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


def _crc(path: Path) -> int:
    """What entries of earlier versions hold."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(2**20):
            value = zlib.crc32(piece, value)
    return value
