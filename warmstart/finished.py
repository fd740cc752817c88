"""Finished things that say themselves whether they are still whole: JSON files with a checksum, folders with a list.

    stage.json     of a finished stage: what it used and reached; the checksum of its own content; and, under `files`,
                   that of every file that the stage leaves to others (the model, its metrics, its lineage)

Checked where it is read: a byte that flips on a disk is told, and never becomes a number in a table. The checksum is
xxh3 (128 bits): it is read at the speed of memory, and is made against accidents, not against malice. Files of earlier
versions have no checksum, and are taken as they are. Whoever changes an exported model by hand copies it first: beside
the copy there is no stage.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

from warmstart.disk import checksum
from warmstart.errors import StateError

CHECKSUM = "checksum"
STAGE = "stage.json"
LEFT = ("model/**/*", "metrics.jsonl", "lineage.json")
CARD = "README.md"
"""The model card is for people: whoever adds to it breaks nothing."""


def sealed(values: dict[str, Any]) -> str:
    """A JSON text with the checksum of its content."""
    plain = json.loads(json.dumps(values))
    return json.dumps(plain | {CHECKSUM: _of(plain)}, indent=1) + "\n"


def read_sealed(path: Path) -> dict[str, Any]:
    """The content of a file that `sealed` made.

    Raises:
        StateError: it cannot be read, or is not what was written.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        expected = values.pop(CHECKSUM, None)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise StateError(f"{path} is broken: {error}") from error
    if expected is not None and expected != _of(values):
        raise StateError(f"{path} is broken: it does not have the checksum that it was written with")
    return dict(values)


def files_left(folder: Path) -> dict[str, str]:
    """The checksum of every file that a finished stage leaves to others, by its path in the stage's folder."""
    found = (path for pattern in LEFT for path in folder.glob(pattern))
    return {path.relative_to(folder).as_posix(): checksum(path) for path in sorted(found) if _counts(path)}


def read_finished(folder: Path) -> dict[str, Any]:
    """The stage.json of a finished stage, after a look at every file that the stage left.

    Raises:
        StateError: the file, or one of those, is not what was written.
    """
    facts = read_sealed(folder / STAGE)
    if not isinstance(facts.get("final", {}), dict):
        raise StateError(f"{folder / STAGE} is no record of a finished stage")
    _check(folder, facts.get("files", {}), lambda name: True)
    return facts


def check_exported(model: Path, wanted: Callable[[str], bool]) -> None:
    """Looks at files of a model folder that a finished stage left; any other folder is taken as it is.

    Args:
        wanted: which files, by their names in the folder.

    Raises:
        StateError: one of them is not what was written.
    """
    stage = model.parent
    if model.name != "model" or not (stage / STAGE).is_file():
        return
    files = read_sealed(stage / STAGE).get("files", {})
    _check(stage, files, lambda name: name.startswith("model/") and wanted(name.removeprefix("model/")))


def _check(folder: Path, files: dict[str, str], wanted: Callable[[str], bool]) -> None:
    for name, expected in files.items():
        if not wanted(name):
            continue
        try:
            found = checksum(folder / name)
        except OSError as error:
            raise StateError(f"{folder / name} cannot be read: {error.strerror}") from error
        if found != expected:
            raise StateError(f"{folder / name} is broken: it does not have the checksum that it was written with")


def _counts(path: Path) -> bool:
    return path.is_file() and path.name != CARD


def _of(values: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(values, sort_keys=True).encode())
