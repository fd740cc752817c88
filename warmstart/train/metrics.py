"""metrics.jsonl (the record that reports and studies read) and experiment trackers (what people watch).

Trackers are those of `accelerate` (tensorboard, wandb, mlflow, trackio, ...), chosen by name in `train.trackers`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warmstart.disk import write_whole
from warmstart.errors import UserError, nearest


class MetricsLog:
    """Appends one JSON line per event to `folder/metrics.jsonl`.

    The lines up to a saved state are kept in the state too: a resumed run begins with these, whatever became of the
    file. They are small beside the weights.

    Attributes:
        text: all lines so far.
    """

    def __init__(self, folder: Path, trackers: list[str], title: str) -> None:
        self.path = folder / "metrics.jsonl"
        self.text = ""
        self.trackers = [_tracker(name, title, folder) for name in trackers]

    def restore(self, text: str | None, step: int) -> None:
        """Begins with the lines of a saved state; where it has none (it is of an earlier version), with those of the
        file up to its step."""
        if text is None:
            kept = [line for line in read_metrics(self.path) if line.get("step", 0) <= step]
            text = "".join(json.dumps(line) + "\n" for line in kept)
        self.text = text
        write_whole(self.path, text)

    def write(self, values: dict[str, Any]) -> None:
        """One line; `values` holds `step` and plain numbers. A number that JSON has no word for becomes null."""
        clean = {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in values.items()}
        line = json.dumps(clean) + "\n"
        numbers = {k: v for k, v in clean.items() if k != "step" and v is not None}
        with self._told(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        self.text += line
        for tracker in self.trackers:
            with self._told(f"the log of the tracker {tracker.name}"):
                tracker.log(numbers, step=values["step"])

    def close(self) -> None:
        for tracker in self.trackers:
            with self._told(f"the log of the tracker {tracker.name}"):
                tracker.finish()

    @staticmethod
    @contextlib.contextmanager
    def _told(what: object) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write {what}: {error.strerror}; the last saved state is untouched") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a torn last line (the process was killed while writing) is left out, as is whatever
    else is no mapping."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            lines.append(found)
    return lines


def finite(value: Any) -> float | None:
    """A number that can be drawn and calculated with; None of anything else that a file may hold in its place."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def _tracker(name: str, title: str, folder: Path) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    logging.getLogger("accelerate.tracking").setLevel(logging.ERROR)
    if name not in LOGGER_TYPE_TO_CLASS:
        raise UserError(
            f"train.trackers: unknown tracker '{name}'{nearest(name, LOGGER_TYPE_TO_CLASS)}; "
            f"known: {', '.join(LOGGER_TYPE_TO_CLASS)}"
        )
    kind = LOGGER_TYPE_TO_CLASS[name]
    try:
        tracker = kind(title, str(folder)) if kind.requires_logging_directory else kind(title)
        if hasattr(tracker, "start"):
            tracker.start()
    except ImportError as error:
        raise UserError(f"train.trackers: '{name}' is not installed: pip install {name}") from error
    return tracker
